"""The way of sockets that main opens while the relay runs: to the supervisor, whose children inherit them.

A descriptor has another number in each process, so they are told by main's, and the supervisor puts its own in their
place. Must never keep a socket that no slot has any more: its port would stay taken.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from actors.messages import Slot

_AT_ONCE: Final = 128  # the kernel takes 253 (SCM_MAX_FD)
_NUMBER: Final = "i"


def channel() -> tuple[SocketSender, int]:
    """Main's end, and the descriptor of the supervisor's, which it inherits. Made before the fork."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return SocketSender(ours), theirs.detach()


class SocketSender:
    """Main's end."""

    def __init__(self, ours: socket.socket) -> None:
        self._socket = ours

    def send(self, fds: Sequence[int]) -> None:
        """Pass these. They are there before the message that speaks of them."""
        for first in range(0, len(fds), _AT_ONCE):
            some = array.array(_NUMBER, fds[first : first + _AT_ONCE])
            socket.send_fds(self._socket, [some.tobytes()], some.tolist())


class SocketReceiver:
    """The supervisor's end, with what has come through it."""

    def __init__(self, fd: int, inherited: Iterable[Slot]) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._ours = {fd: fd for fd in _descriptors(inherited)}  # main's number -> that of this process

    def placed(self, slots: Sequence[Slot]) -> tuple[Slot, ...]:
        """The slots with descriptors of this process. What none of them has is closed."""
        self._take()
        wanted = _descriptors(slots)
        for number in [number for number in self._ours if number not in wanted]:
            os.close(self._ours.pop(number))
        return tuple(
            replace(slot, socket_fd=self._ours.get(slot.socket_fd, -1), control_fd=self._ours.get(slot.control_fd, -1))
            for slot in slots
        )

    def _take(self) -> None:
        """Whatever has been sent. Main gives a number to another socket only when it has closed the first."""
        with suppress(BlockingIOError):
            while True:
                numbers = array.array(_NUMBER)
                data, fds, _, _ = socket.recv_fds(self._socket, _AT_ONCE * numbers.itemsize, _AT_ONCE)
                if not data:
                    return
                numbers.frombytes(data)
                for number, fd in zip(numbers, fds, strict=True):
                    os.set_inheritable(fd, False)
                    if number in self._ours:
                        os.close(self._ours[number])
                    self._ours[number] = fd


def _descriptors(slots: Iterable[Slot]) -> set[int]:
    return {fd for slot in slots for fd in (slot.socket_fd, slot.control_fd) if fd >= 0}
