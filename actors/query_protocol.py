"""What an operator may ask a worker, and what it says: who is connected, which circuits run, and that a peer must go.

Asked by the admin process, answered by the worker that holds the connections (query_server.py). Framed as on the
registry link. One question at a time a connection, each with its answer; an answer is a page, so that no answer grows
with the number of peers. No I/O here.
"""

from __future__ import annotations

from typing import Final

import msgspec

from actors.registry_protocol import FrameDecoder

PAGE_ROWS: Final = 512
"""Rows of one answer, at most: about 1 ms of the worker's time."""
END: Final = 0
"""`next` when there is nothing behind this page."""


class ListPeers(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The connections behind number `after`, by number. Answered by PeersPage."""

    after: int = 0
    at_most: int = PAGE_ROWS
    peer: bytes = b""
    """Only this peer's."""
    unreserved: bool = False
    """Also those that hold no reservation."""


class ListCircuits(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The circuits behind number `after` whose source is here, by number. Answered by CircuitsPage."""

    after: int = 0
    at_most: int = PAGE_ROWS


class EndPeer(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """End all connections of this peer. Answered by Ended."""

    peer: bytes


class PeerRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One connection. Times are CLOCK_MONOTONIC; `reserved_until_s` 0: it holds no reservation."""

    peer: bytes
    ip: str
    port: int
    transport: str
    agent: str
    since_s: float
    reserved_until_s: float
    circuits: int


class CircuitRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One circuit, from the registry's grant on; `is_open` once the target has accepted it."""

    source: bytes
    target: bytes
    target_worker: str
    since_s: float
    is_open: bool
    to_target_bytes: int
    to_source_bytes: int


class PeersPage(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """`next`: what to ask behind for the next page, or END. A page may be short, or empty, and still have a next."""

    rows: list[PeerRow]
    next: int


class CircuitsPage(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """As PeersPage."""

    rows: list[CircuitRow]
    next: int


class Ended(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """So many connections of the peer are being ended."""

    connections: int


Question = ListPeers | ListCircuits | EndPeer
Answer = PeersPage | CircuitsPage | Ended

_QUESTIONS: Final[msgspec.msgpack.Decoder[Question]] = msgspec.msgpack.Decoder(Question)
_ANSWERS: Final[msgspec.msgpack.Decoder[Answer]] = msgspec.msgpack.Decoder(Answer)


def question_decoder() -> FrameDecoder[Question]:
    """For the worker's end."""
    return FrameDecoder(_QUESTIONS)


def answer_decoder() -> FrameDecoder[Answer]:
    """For the end that asks."""
    return FrameDecoder(_ANSWERS)


def socket_path(runtime_dir: str, slot_index: int) -> str:
    """Where the worker in this slot answers."""
    return f"{runtime_dir}/query-{slot_index}.sock"
