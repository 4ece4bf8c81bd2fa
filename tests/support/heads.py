"""A proxy in front of a WebSocket listener that passes everything on and keeps the heads: request and answer.

It sees the bytes as they are on the wire, whatever the relay makes of them. Everything behind a head is not looked at.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

END = b"\r\n\r\n"


class HeadProxy:
    """Context manager. `port` is known from the start; `forward_to` says where to, before the first connection."""

    def __init__(self) -> None:
        self.heads: list[tuple[bytearray, bytearray]] = []
        self._to: tuple[str, int] = ("127.0.0.1", 0)
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]

    def forward_to(self, port: int) -> None:
        """Pass connections on to this port of loopback from here on."""
        self._to = ("127.0.0.1", port)
        self._start(self._accept)

    def _start(self, work: object, *arguments: object) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments, daemon=True))  # type: ignore[arg-type]
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listening.accept()
                relay = socket.create_connection(self._to)
                request, answer = bytearray(), bytearray()
                self.heads.append((request, answer))
                self._sockets += [client, relay]
                self._start(self._pass, client, relay, request)
                self._start(self._pass, relay, client, answer)

    @staticmethod
    def _pass(source: socket.socket, to: socket.socket, head: bytearray) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if END not in head:
                    head += data
                    del head[head.find(END) + len(END) if END in head else len(head) :]
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in (self._listening, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(5)
