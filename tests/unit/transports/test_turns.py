"""A peer that sends faster than it is read does not keep the loop from the others."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from tests.support.sockets import Endpoint, listening, run, until
from transports.tcp import _READ_BYTES, TcpEnd
from transports.wire import Flusher, Wire


class _Counting(Endpoint):
    """Counts what it is fed in one turn of the loop."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire)
        self.turns: list[int] = []
        self._open = False

    def receive(self, data: bytes, now_s: float) -> None:  # type: ignore[override]  # enough for what it does
        if not self._open:
            self._open = True
            self.turns.append(0)
            asyncio.get_running_loop().call_soon(self._close)
        self.turns[-1] += len(data)

    def _close(self) -> None:
        self._open = False


SENT_BYTES = 2_000_000


def test_one_tcp_peer_is_read_once_a_turn_however_much_it_sends() -> None:
    async def scene() -> None:
        ends: list[_Counting] = []
        loop = asyncio.get_running_loop()
        listener = listening()
        flusher = Flusher(loop, lambda error: pytest.fail(str(error)))
        server = await loop.create_server(
            lambda: TcpEnd(flusher, time.monotonic, lambda wire: ends.append(_Counting(wire))), sock=listener
        )
        with socket.create_connection(listener.getsockname()) as sender:
            sending = loop.run_in_executor(None, sender.sendall, bytes(SENT_BYTES))
            await until(lambda: ends and sum(ends[0].turns) == SENT_BYTES)
            await sending
            assert max(ends[0].turns) <= _READ_BYTES
        server.close()

    run(scene())
