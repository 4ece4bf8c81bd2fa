"""Records how a client reserves and connects: a relay with taps in its layers, a proxy that keeps the HTTP heads.

`Recorder` is for whoever drives the clients; `text` gives what was seen, each connection for itself, in the order in
which the relay saw it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.heads import HeadProxy
from tests.support.relay import RelayProcess
from tests.support.trace_text import ConnectionText, Line, head_text
from transports.identity import parse_peer_id


class Recorder:
    """Context manager: a relay on WebSocket that is recorded in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "trace.jsonl"
        self._file.touch()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._proxy = self._stack.enter_context(HeadProxy())
        self.relay = self._stack.enter_context(
            RelayProcess(
                f'announce.addresses=["/ip4/127.0.0.1/tcp/{self._proxy.port}/ws"]',
                listeners=("/ip4/127.0.0.1/tcp/0/ws",),
                command=("-m", "tests.support.traced_relay", "run"),
                env={"FROST_RELAY_TRACE": str(self._file)},
            )
        )
        (listener,) = self.relay.workers("listener")
        self._proxy.forward_to(int(listener["listener"].split("/")[4]))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def text(self, peers: Mapping[str, str]) -> str:
        """What was recorded so far; `peers` maps peer IDs to the names that stand for them."""
        names = {parse_peer_id(peer): name for peer, name in peers.items()}
        names[parse_peer_id(self.relay.peer_id)] = "relay"
        lines: list[Line] = [json.loads(line) for line in self._file.read_text().splitlines()]
        parts = []
        for number, heads in enumerate(self._proxy.heads, 1):
            own = [line for line in lines if line["connection"] == number]
            who = next((names.get(bytes.fromhex(line["data"]), "") for line in own if line["what"] == "closed"), "")
            request, answer = map(bytes, heads)
            http = [*head_text("client", request), *head_text("relay", answer)]
            body = [f"## Connection {number}: {who or 'nobody'}", "", "```", "HTTP", *http]
            parts.append("\n".join([*body, *ConnectionText(names).text(own), "```", ""]))
        return "\n".join(parts)
