"""/peers.json, /circuits.json and /kick: what was asked, read from the request; what workers said, as JSON.

A parameter that cannot be used is answered with 400 and one line. Nothing here touches a socket.
"""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, TypeVar

from actors import log
from actors.messages import Slot
from actors.query_protocol import CircuitRow, PeerRow
from supervisor.admin.http import Answer, Request, Route, plain
from supervisor.admin.workers import BEGINNING, Cursor, Page, Part, Workers
from transports.identity import parse_peer_id, peer_id_text

MOST_ROWS: Final = 1000
"""Rows of one answer. `next` in it is the `after` of the following request."""

_logger = log.get_logger("admin")
T = TypeVar("T")


class ParameterError(ValueError):
    """A parameter of a request cannot be used; the text is one line for whoever asked."""


class Listing:
    """The routes that need the workers. Clocks are CLOCK_MONOTONIC and the time of day, both in seconds."""

    def __init__(
        self,
        workers: Workers,
        clock: Callable[[], float] = time.monotonic,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self._workers = workers
        self._clock = clock
        self._time_of_day = time_of_day

    def routes(self) -> dict[str, Route]:
        """By path."""
        return {
            "/peers.json": Route(self.peers),
            "/circuits.json": Route(self.circuits),
            "/kick": Route(self.kick, "POST"),
        }

    async def peers(self, request: Request) -> Answer:
        """Who is reserved (with `all=1`: who is connected), by `peer`, `ip` or subnet, `worker`, `transport`."""
        try:
            network = _read(request.query, "ip", _network, None)
            peer = _read(request.query, "peer", parse_peer_id, b"")
            part = _part(request.query)
        except ParameterError as error:
            return plain(HTTPStatus.BAD_REQUEST, str(error))
        transport = request.query.get("transport", "")

        def show(slot: Slot, row: PeerRow) -> dict[str, Any] | None:
            if transport and row.transport != transport:
                return None
            if network is not None and ipaddress.ip_address(row.ip) not in network:
                return None
            return self._peer(slot, row)

        return _answer("peers", await self._workers.peers(part, peer, bool(request.query.get("all")), show))

    async def circuits(self, request: Request) -> Answer:
        """The circuits, by `peer` (source or target) and `worker` (of the source)."""
        try:
            peer = _read(request.query, "peer", parse_peer_id, b"")
            part = _part(request.query)
        except ParameterError as error:
            return plain(HTTPStatus.BAD_REQUEST, str(error))

        def show(slot: Slot, row: CircuitRow) -> dict[str, Any] | None:
            return self._circuit(slot, row) if not peer or peer in {row.source, row.target} else None

        return _answer("circuits", await self._workers.circuits(part, show))

    async def kick(self, request: Request) -> Answer:
        """End the connections of the peer that the body names: {"peer": "12D3…"}."""
        try:
            body = json.loads(request.body or b"{}")
            peer = _read(body if isinstance(body, dict) else {}, "peer", parse_peer_id, b"")
        except ParameterError as error:
            return plain(HTTPStatus.BAD_REQUEST, str(error))
        except ValueError:
            return plain(HTTPStatus.BAD_REQUEST, 'the body must be JSON such as {"peer": "12D3…"}')
        if not peer:
            return plain(HTTPStatus.BAD_REQUEST, "peer is missing: expected a peer ID")
        ended, missing = await self._workers.end_peer(peer)
        _logger.info("kicked", peer=peer_id_text(peer), connections=ended)
        return _json({"peer": peer_id_text(peer), "connections": ended, "missing": missing})

    def _peer(self, slot: Slot, row: PeerRow) -> dict[str, Any]:
        return {
            "peer": peer_id_text(row.peer),
            "address": f"[{row.ip}]:{row.port}" if ":" in row.ip else f"{row.ip}:{row.port}",
            "transport": row.transport,
            "worker": slot.name,
            "agent": row.agent,
            "since": self._moment(row.since_s),
            "until": self._moment(row.reserved_until_s) if row.reserved_until_s else None,
            "circuits": row.circuits,
        }

    def _circuit(self, slot: Slot, row: CircuitRow) -> dict[str, Any]:
        return {
            "source": peer_id_text(row.source),
            "target": peer_id_text(row.target),
            "state": "open" if row.is_open else "calling",
            "since": self._moment(row.since_s),
            "to_target_bytes": row.to_target_bytes,
            "to_source_bytes": row.to_source_bytes,
            "source_worker": slot.name,
            "target_worker": row.target_worker,
        }

    def _moment(self, at_s: float) -> str:
        """A moment of the monotonic clock as 2026-11-23T02:51:43Z."""
        moment = datetime.fromtimestamp(self._time_of_day() + at_s - self._clock(), UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _part(query: Mapping[str, str]) -> Part:
    return Part(
        limit=_read(query, "limit", _limit, MOST_ROWS),
        start=_read(query, "after", Cursor.parse, BEGINNING),
        worker=query.get("worker", ""),
    )


def _read(query: Mapping[str, Any], name: str, parse: Callable[[str], T], default: T) -> T:
    value = query.get(name, "")
    if value == "":
        return default
    try:
        return parse(value)
    except (ValueError, TypeError, AttributeError):
        raise ParameterError(f"{name} = {json.dumps(value)}: expected {_EXPECTED[name]}") from None


_EXPECTED: Final = {
    "peer": "a peer ID such as 12D3KooW…",
    "ip": "an IP address or a subnet such as 203.0.113.0/24",
    "limit": f"a whole number from 1 to {MOST_ROWS}",
    "after": "the next of an earlier answer",
}


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    return ipaddress.ip_network(text, strict=False)


def _limit(text: str) -> int:
    limit = int(text)
    if not 1 <= limit <= MOST_ROWS:
        raise ValueError(text)
    return limit


def _answer(name: str, page: Page) -> Answer:
    return _json({name: page.rows, "next": str(page.next) if page.next else None, "missing": page.missing})


def _json(document: Mapping[str, Any]) -> Answer:
    return Answer(HTTPStatus.OK, json.dumps(document).encode(), "application/json")
