"""Logging for the whole tree: text or JSON lines on standard error, from our loggers and the standard library's alike.

Set up in main before the first fork, inherited by all. A reader that does not read (a full pipe, a stopped terminal)
must never stop a worker: lines are written without waiting, what does not fit is dropped, counted, and reported with
the next line that does. A terminal or pipe is opened again for that, because O_NONBLOCK on the inherited descriptor
would also change it for the shell that started us. No line may carry a secret; values come from our own code only.
"""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import stat
import time
import traceback
from typing import Any, Protocol

from actors import log

MAX_LINE_BYTES = 64 * 1024
_PIPE_BUF = 4096  # a write of at most this much to a pipe happens as a whole or not at all
_LEVEL_NAMES = {"debug": "debug", "info": "info ", "warning": "warn ", "error": "error"}


class Destination(Protocol):
    """Where bytes go."""

    def __call__(self, data: bytes, /) -> int:
        """Take what fits at once, and say how much. Raises BlockingIOError when nothing does, OSError when broken."""


def _reopened(fd: int) -> Destination | None:
    """The same pipe or terminal, non-blocking, under a descriptor of our own; None where that is not allowed."""
    try:
        own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    return lambda data: os.write(own, data)


def _polled(fd: int) -> Destination:
    """For what cannot be opened again: ask before each write, and write no more than then fits."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)

    def write(data: bytes) -> int:
        if not poll.poll(0):
            raise BlockingIOError
        return os.write(fd, data[:_PIPE_BUF])

    return write


def destination(fd: int) -> Destination:
    """The way to write to `fd` without ever waiting, whatever it is."""
    kind = os.fstat(fd).st_mode
    if stat.S_ISSOCK(kind):  # the journal of systemd
        stream = socket.socket(fileno=os.dup(fd))
        return lambda data: stream.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
        return _reopened(fd) or _polled(fd)
    return lambda data: os.write(fd, data)  # a file does not make us wait


class Writer:
    """Writes whole lines, or drops and counts them."""

    __slots__ = ("_rest", "_unreported", "_write")

    def __init__(self, write: Destination) -> None:
        self._write = write
        self._rest = b""
        self._unreported = 0

    def line(self, text: str) -> None:
        """One line, without its end. Never waits, never raises."""
        data = text.encode("utf-8", "backslashreplace")[:MAX_LINE_BYTES] + b"\n"
        try:
            if self._rest or self._unreported:
                self._catch_up()
            taken = self._write(data)
            self._rest = data[taken:]  # the end of a line that was begun comes before the next
        except OSError:
            self._unreported += 1
            log.OUTPUT.dropped += 1

    def _catch_up(self) -> None:
        while self._rest:
            self._rest = self._rest[self._write(self._rest) :]
        if self._unreported:
            notice = f"{timestamp()} warn  log: lines dropped count={self._unreported}\n".encode()
            self._rest = notice[self._write(notice) :]
            self._unreported = 0


class _Second:
    """The current second's text: formatting it anew for each line would be half the cost of a line."""

    second = -1
    text = ""


def timestamp() -> str:
    """Now, UTC, as 2026-11-23T02:51:43.123Z."""
    now_ms = time.time_ns() // 1_000_000
    second, ms = divmod(now_ms, 1000)
    if second != _Second.second:
        _Second.second, _Second.text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    return f"{_Second.text}.{ms:03d}Z"


def _value(value: object) -> str:
    """A field's value in the text form: quoted when it could be taken for something else."""
    text = value if isinstance(value, str) else str(value)
    if text and text.isprintable() and not (" " in text or '"' in text or "=" in text):
        return text
    return json.dumps(text, ensure_ascii=False)


def _trace(exc_info: Any) -> str:
    return "".join(traceback.format_exception(*exc_info)).rstrip()


def text_line(level: str, name: str, event: str, fields: dict[str, Any]) -> str:
    """For people: `2026-11-23T02:51:43.123Z info  listener: reservation granted peer=12D3… address=…`."""
    exc_info = fields.pop("exc_info", None)
    head = f"{timestamp()} {_LEVEL_NAMES[level]} {name}: {event}"
    if fields:
        head += "".join([f" {key}={_value(value)}" for key, value in fields.items()])
    return f"{head}\n{_trace(exc_info)}" if exc_info else head


def json_line(level: str, name: str, event: str, fields: dict[str, Any]) -> str:
    """For machines: one object a line."""
    exc_info = fields.pop("exc_info", None)
    entry = {"time": timestamp(), "level": level, "logger": name, "event": event, **fields}
    if exc_info:
        entry["stack"] = _trace(exc_info)
    return json.dumps(entry, ensure_ascii=False, default=str, separators=(",", ":"))


class _StandardHandler(logging.Handler):
    """The standard library's loggers (thespian, picows, asyncio) through the same form and writer."""

    def emit(self, record: logging.LogRecord) -> None:
        level = min(max(record.levelno // 10 * 10, log.DEBUG), log.ERROR)
        fields = {"exc_info": record.exc_info} if record.exc_info and record.exc_info[0] else {}
        names = {number: name for name, number in log.LEVELS.items()}
        log.OUTPUT.sink(names[level], record.name, record.getMessage(), fields)


def configure(level: str, form: str, fd: int = 2, privacy: str = "off") -> None:
    """Send the log lines of this process and all forked from it to `fd`, as "text" or "json", from `level` upwards.

    With `privacy` "strict" no line tells where a peer is. Level, format and privacy can be changed later, in each
    process by itself, with `actors.log.OUTPUT`.
    """
    writer = Writer(destination(fd))
    root = logging.getLogger()
    root.handlers[:] = [_StandardHandler()]

    def change(level: str, form: str) -> None:
        render = json_line if form == "json" else text_line
        log.OUTPUT.sink = lambda *parts: writer.line(render(*parts))
        log.OUTPUT.threshold = log.LEVELS[level]
        root.setLevel(max(log.LEVELS[level], logging.WARNING))  # libraries speak up only when something is wrong

    log.OUTPUT.setter = change
    log.OUTPUT.change(level, form, privacy)
