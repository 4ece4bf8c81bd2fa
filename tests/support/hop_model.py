"""A simple model of hop: plain lists, everything counted anew for each question. It knows no byte of any protocol.

It is told what peers do and when the registry answers, and predicts what every hop stream is told and what is held.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from config.settings import Limits

MESSAGE_S, STOP_S = 10.0, 25.0


class At(Enum):
    """Where a hop stream stands."""

    READING = "half a message has come"
    REGISTRY = "the registry is asked"
    RINGING = "the target is asked"
    CIRCUIT = "a circuit"
    ANSWERED = "answered, and the peer has not said FIN"
    OVER = "over"


@dataclass(eq=False)
class Line:
    """One connection of a peer. `rung` are the calls that reached it, in order."""

    peer: int
    speaks_stop: bool
    up: bool = True
    reserved_until_s: float = 0.0
    rung: list[Asked] = field(default_factory=list)


@dataclass(eq=False)
class Asked:
    """One hop stream. What its client must have been told: `status`, `fin`, `rst`; and the circuit's two directions."""

    line: Line
    at: At = At.READING
    since_s: float = 0.0
    status: list[int] = field(default_factory=list)
    fin: bool = False
    rst: bool = False
    client_closed: bool = False
    client_reset: bool = False
    target: int = -1
    callee: Line | None = None
    circuit: int = 0
    opened_s: float = 0.0
    to_target: bytes = b""
    to_source: bytes = b""
    target_fin: bool = False
    target_rst: bool = False


class HopModel:
    """Peers are numbers. `denied` may not use the relay at all."""

    def __init__(self, limits: Limits, denied: int, now_s: float) -> None:
        self.limits = limits
        self.denied = denied
        self.now_s = now_s
        self.lines: list[Line] = []
        self.asked: list[Asked] = []
        self.reservations: dict[int, tuple[Line, float]] = {}
        self.circuits: dict[int, tuple[int, int]] = {}
        self.held = False
        self._next_circuit = 1
        self._queue: deque[Callable[[], None]] = deque()

    # What peers do

    def connect(self, peer: int, *, speaks_stop: bool) -> Line:
        self.lines.append(Line(peer, speaks_stop))
        return self.lines[-1]

    def open(self, line: Line) -> Asked:
        """A hop stream with half a message, or none."""
        self.asked.append(Asked(line, since_s=self.now_s))
        return self.asked[-1]

    def reserve(self, asked: Asked) -> None:
        if asked.line.peer == self.denied:
            self.answer(asked, 202)
        else:
            asked.at = At.REGISTRY
            self._queue.append(lambda: self._reserve(asked))

    def call(self, asked: Asked, target: int, early: bytes) -> None:
        asked.target, asked.to_target = target, early
        if self.denied in (asked.line.peer, target):
            self.answer(asked, 202)
        else:
            asked.at = At.REGISTRY
            self._queue.append(lambda: self._open_circuit(asked))

    def answer(self, asked: Asked, status: int) -> None:
        """A status, and FIN behind it."""
        asked.status.append(status)
        asked.fin = True
        asked.since_s = self.now_s
        asked.at = At.OVER if asked.client_closed else At.ANSWERED

    def close(self, asked: Asked) -> None:
        """The client says FIN."""
        asked.client_closed = True
        if asked.at is At.READING:
            asked.rst, asked.at = True, At.OVER
        elif asked.at is At.ANSWERED:
            asked.at = At.OVER
        elif asked.at is At.CIRCUIT:
            asked.target_fin = True
            self._finish_if_both_ended(asked)

    def reset(self, asked: Asked) -> None:
        """The client resets its stream."""
        asked.client_reset = True
        self._leave(asked)

    def _leave(self, asked: Asked) -> None:
        if asked.at in (At.RINGING, At.CIRCUIT):
            asked.target_rst = True
            self._give_back(asked)
        asked.at = At.OVER

    def hang_up(self, line: Line) -> None:
        """A connection ends, with all that was on it."""
        line.up, line.reserved_until_s = False, 0.0
        for asked in self.asked:
            if asked.line is line:
                self._leave(asked)
            elif asked.callee is line and asked.at is At.RINGING:
                self.decline(asked)
            elif asked.callee is line and asked.at is At.CIRCUIT:
                self.reset_by_target(asked)
        self._queue.append(lambda: self._forget(line))

    # What targets do

    def accept(self, asked: Asked, first: bytes) -> None:
        asked.status.append(100)
        asked.at, asked.opened_s = At.CIRCUIT, self.now_s
        early, asked.to_target = asked.to_target, b""
        self.pass_to_target(asked, early)
        if asked.client_closed and asked.at is At.CIRCUIT:
            asked.target_fin = True
        self.pass_to_source(asked, first)

    def decline(self, asked: Asked) -> None:
        """The target refuses in whatever way, is silent for too long, or is gone."""
        self._give_back(asked)
        self.answer(asked, 203)

    def close_by_target(self, asked: Asked) -> None:
        asked.fin = True
        self._finish_if_both_ended(asked)

    def reset_by_target(self, asked: Asked) -> None:
        asked.rst, asked.at = True, At.OVER
        self._give_back(asked)

    # The circuit

    def pass_to_target(self, asked: Asked, data: bytes) -> None:
        if asked.at is At.CIRCUIT:
            room = self.limits.circuit_bytes - len(asked.to_target)
            asked.to_target += data[:room]
            self._end_at_the_limit(asked, len(data) > room)

    def pass_to_source(self, asked: Asked, data: bytes) -> None:
        if asked.at is At.CIRCUIT:
            room = self.limits.circuit_bytes - len(asked.to_source)
            asked.to_source += data[:room]
            self._end_at_the_limit(asked, len(data) > room)

    def _end_at_the_limit(self, asked: Asked, over: bool) -> None:
        if over:
            asked.rst = asked.target_rst = True
            asked.at = At.OVER
            self._give_back(asked)

    def _finish_if_both_ended(self, asked: Asked) -> None:
        if asked.fin and asked.target_fin:
            asked.at = At.OVER
            self._give_back(asked)

    def _give_back(self, asked: Asked) -> None:
        self._queue.append(lambda: self.circuits.pop(asked.circuit, None) and None)

    # The registry

    def turn_registry(self) -> None:
        """It answers what was asked, in order, unless it is held."""
        while self._queue and not self.held:
            self._queue.popleft()()

    def live(self) -> dict[int, Line]:
        return {peer: line for peer, (line, until_s) in self.reservations.items() if until_s > self.now_s}

    def _reserve(self, asked: Asked) -> None:
        peer, live = asked.line.peer, self.live()
        if peer not in live and len(live) >= self.limits.max_reservations:
            if asked.at is At.REGISTRY:
                self.answer(asked, 200)
            return
        if peer in live:
            live[peer].reserved_until_s = 0.0
        until_s = math.ceil(self.now_s + self.limits.reservation_ttl_s)
        self.reservations[peer] = (asked.line, until_s)
        if not asked.line.up:
            self._queue.append(lambda: self._forget(asked.line))
            return
        asked.line.reserved_until_s = until_s
        if asked.at is At.REGISTRY:
            self.answer(asked, 100)

    def _forget(self, line: Line) -> None:
        if self.reservations.get(line.peer, (None, 0))[0] is line:
            del self.reservations[line.peer]

    def refusal(self, source: int, target: int) -> int:
        """The status for which a circuit is refused now; 0: it is granted."""
        most = self.limits.max_circuits_per_peer
        if target not in self.live():
            return 204
        if len(self.circuits) >= self.limits.max_circuits:
            return 201
        if sum(each[0] == source for each in self.circuits.values()) >= most:
            return 201
        return 201 if sum(each[1] == target for each in self.circuits.values()) >= most else 0

    def _open_circuit(self, asked: Asked) -> None:
        source, target = asked.line.peer, asked.target
        status = self.refusal(source, target)
        if status:
            if asked.at is At.REGISTRY:
                self.answer(asked, status)
            return
        asked.circuit, self._next_circuit = self._next_circuit, self._next_circuit + 1
        self.circuits[asked.circuit] = (source, target)
        callee = self.live()[target]
        if asked.at is not At.REGISTRY:
            self._give_back(asked)
        elif not callee.up or not callee.speaks_stop:
            self.decline(asked)
        else:
            asked.callee, asked.at, asked.since_s = callee, At.RINGING, self.now_s
            callee.rung.append(asked)

    # Time

    def turn(self, seconds: float) -> None:
        """A quarter of a second after the other, everything that is due."""
        for _ in range(round(seconds * 4)):
            self.now_s += 0.25
            for asked in self.asked:
                self._due(asked)
            for line in self.lines:
                if line.reserved_until_s <= self.now_s:
                    line.reserved_until_s = 0.0
            self.turn_registry()

    def _due(self, asked: Asked) -> None:
        waited_s = self.now_s - asked.since_s
        if asked.at in (At.READING, At.ANSWERED) and waited_s >= MESSAGE_S:
            asked.rst, asked.at = True, At.OVER
        elif asked.at is At.RINGING and waited_s >= STOP_S:
            asked.target_rst = True
            self.decline(asked)
        elif asked.at is At.CIRCUIT and self.now_s - asked.opened_s >= self.limits.circuit_duration_s:
            self._end_at_the_limit(asked, over=True)
