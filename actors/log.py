"""Loggers for everything below the supervisor: one line an event that an operator cares about, nothing per message.

A line goes to one writer (see supervisor/logs.py, which sets format, level and destination). Until that is done, as in
tests and tools, lines at warning and above go to standard error as plain text. A log call must never block and never
raise: what cannot be written is dropped and counted.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40
_WHEREABOUTS = ("address", "forwarded")  # the fields in which a peer's address may stand
LEVELS = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}


def _plain(level: str, name: str, event: str, fields: dict[str, Any]) -> None:
    """The sink before configuration: standard error, whatever it is."""
    detail = " ".join(f"{key}={value}" for key, value in fields.items())
    print(f"{level}  {name}: {event} {detail}".rstrip(), file=sys.stderr)  # noqa: T201


class _Output:
    """The one place that lines pass: a threshold and a sink, both replaceable at run time."""

    __slots__ = ("dropped", "hidden", "setter", "sink", "threshold")

    def __init__(self) -> None:
        self.dropped = 0
        """Lines of this process that could not be written."""
        self.threshold = WARNING
        self.hidden: tuple[str, ...] = ()
        """Names of fields that are left out of every line."""
        self.sink: Callable[[str, str, str, dict[str, Any]], None] = _plain
        self.setter: Callable[[str, str], None] = self._set_threshold
        """Takes another level and format; supervisor/logs.py puts its own here."""

    def _set_threshold(self, level: str, _form: str) -> None:
        self.threshold = LEVELS[level]

    def change(self, level: str, form: str, privacy: str = "off") -> None:
        """Lines of this process are written from `level` upwards and in this format from now on.

        With `privacy` "strict" they do not tell where a peer is.
        """
        self.setter(level, form)
        self.hidden = _WHEREABOUTS if privacy == "strict" else ()


OUTPUT = _Output()


class Logger:
    """The logger of a part of the relay. Its level is read at each call, so that it can be changed while it runs."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def debugs(self) -> bool:
        """Whether `debug` writes anything: asked where the fields of a line cost more than the question."""
        return OUTPUT.threshold <= DEBUG

    def debug(self, event: str, **fields: Any) -> None:
        """For those who debug the relay; off by default."""
        if self.debugs:
            self._write("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Something an operator wants to find later."""
        if OUTPUT.threshold <= INFO:
            self._write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something that should not happen, and was handled."""
        if OUTPUT.threshold <= WARNING:
            self._write("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """A fault of ours, or something only the operator can repair."""
        self._write("error", event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """A fault of ours, with the stack trace of the exception that is being handled."""
        self._write("error", event, {**fields, "exc_info": sys.exc_info()})

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        for field in OUTPUT.hidden:
            fields.pop(field, None)
        OUTPUT.sink(level, self._name, event, fields)


def get_logger(name: str) -> Logger:
    """The logger of a part of the relay; `name` stands before each of its lines."""
    return Logger(name)
