"""A TCP proxy that hands on what the relay says a few bytes at a time, so that every frame arrives cut."""

from __future__ import annotations

import socket
import threading
from itertools import cycle
from typing import Self

PIECES = (1, 2, 3, 5, 7, 11)


class Slicer:
    """Context manager; serves in threads, each connection until one side closes."""

    def __init__(self, port: int) -> None:
        self._relay = ("127.0.0.1", port)

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        self._threads = [self._start(self._accept)]
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._ends):
            _close(each)
        for thread in self._threads:
            thread.join(10)

    def _start(self, target: object, *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        thread.start()
        return thread

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            relay = socket.create_connection(self._relay)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ends += [client, relay]
            self._threads += [self._start(_pass, client, relay, (65536,)), self._start(_pass, relay, client, PIECES)]


def _pass(source: socket.socket, sink: socket.socket, pieces: tuple[int, ...]) -> None:
    try:
        for size in cycle(pieces):
            data = source.recv(size)
            if not data:
                break
            sink.sendall(data)
    except OSError:  # the other side was first
        return
    finally:
        _close(source)
        _close(sink)


def _close(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:  # it was closed before
        return
    finally:
        end.close()
