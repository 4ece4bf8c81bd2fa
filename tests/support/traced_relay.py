"""A relay that writes down what its layers see: `python -m tests.support.traced_relay run …` is like `frost-relay run`.

The relay's own classes, put together as ever; before the first fork some are replaced by ones that also write the bytes
of each call as a line of JSON to the file $FROST_RELAY_TRACE. It holds plaintext, never a key. trace.py reads it.
"""

from __future__ import annotations

import json
import os
from itertools import count
from pathlib import Path
from typing import Any

from actors import worker
from supervisor.cli import main
from transports import multistream, noise, upgrade, yamux

_numbers = count(1)
_now = 0  # the connection that is being served


def write(what: str, side: str, data: bytes = b"", connection: int = 0) -> None:
    """One line. `side`: who sent the bytes."""
    line = {"connection": connection or _now, "what": what, "from": side, "data": data.hex()}
    fd = os.open(os.environ["FROST_RELAY_TRACE"], os.O_WRONLY | os.O_APPEND)
    os.write(fd, json.dumps(line).encode() + b"\n")
    os.close(fd)


class TracedConnection(upgrade.Connection):
    """Says which connection it is that the layers work for."""

    def __init__(self, *arguments: Any) -> None:
        global _now  # noqa: PLW0603 - one thread, and the layers know nothing of their connection
        self.number = _now = next(_numbers)
        super().__init__(*arguments)

    def receive(self, data: yamux.Buffer, now_s: float) -> None:
        global _now  # noqa: PLW0603
        _now = self.number
        super().receive(data, now_s)

    def closed(self) -> None:
        write("closed", "client", self.peer, self.number)
        super().closed()


class TracedResponder(multistream.Responder):
    """multistream below yamux."""

    __slots__ = ()

    def receive(self, data: bytes | bytearray | memoryview) -> bytes:
        received = bytes(self._reader.buffer) + bytes(data)
        answer = super().receive(data)
        write("multistream", "client", received[: len(received) - len(self._reader.buffer)])
        write("multistream", "relay", answer)
        return answer


class TracedHandshake(noise.Handshake):
    """Noise's handshake: its messages as they come, and the payload that was sealed in the last one."""

    def start(self) -> bytes:
        write("noise-payload", "relay", self._payload)
        return super().start()

    def receive(self, data: yamux.Buffer) -> bytes:
        received = bytes(self._buffer) + bytes(data)
        answer = super().receive(data)
        write("noise", "client", received[: len(received) - len(self._buffer)])
        write("noise", "relay", answer)
        return answer

    def _accept(self, payload: bytes) -> None:
        write("noise-payload", "client", payload)
        super()._accept(payload)


class TracedSession(yamux.Session):
    """yamux, without Noise around it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.number = _now

    def receive(self, data: bytes, now_s: float) -> None:
        write("yamux", "client", data, self.number)
        super().receive(data, now_s)

    def take_output(self) -> yamux.Buffer:
        data = super().take_output()
        if data:
            write("yamux", "relay", bytes(data), self.number)
        return data


TRACED = (
    (worker, "Connection", TracedConnection),
    (multistream, "Responder", TracedResponder),  # as upgrade.py knows it; on streams yamux shows it all
    (upgrade, "Handshake", TracedHandshake),
    (upgrade, "Session", TracedSession),
)


def trace(path: Path) -> None:
    """From here on every connection is written down."""
    path.touch()
    for module, name, traced in TRACED:
        setattr(module, name, traced)


if __name__ == "__main__":
    trace(Path(os.environ["FROST_RELAY_TRACE"]))
    main(prog_name="frost-relay")
