"""The content of /status.json and /readyz, from the boot message and the board.

No I/O but the memory figures and the small files of actors/arrivals.py.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client.core import Metric

from actors.arrivals import Unannounced, announced_hosts, kept
from actors.blame import who
from actors.board import Board, BoardRow, State
from actors.messages import Boot, Outcome
from actors.process import how_ended
from config.load import to_tables
from supervisor.admin.memory import read_cpu_seconds
from supervisor.canary import record
from supervisor.canary.record import Record
from supervisor.memory_limit import limit_bytes
from supervisor.metrics import BoardCollector, certificates, of_audit, of_settings, totals
from transports.identity import HostKey, peer_id_text


class Status:
    """The relay as an operator sees it, at the moment of asking."""

    def __init__(
        self,
        boot: Boot,
        board: Board,
        memory_bytes: Callable[[int], int],
        clock: Callable[[], float] = time.monotonic,
        cpu_seconds: Callable[[int], float] = read_cpu_seconds,
    ) -> None:
        self._board = board
        self._memory_bytes = memory_bytes
        self._runtime_dir = boot.runtime_dir
        self._has_canary = any(slot.role == "canary" for slot in boot.slots)
        self._clock = clock
        self._begun = board.row(next(slot.index for slot in boot.slots if slot.role == "main"))
        self._blame = board.blame
        self._registry = board.row(next(slot.index for slot in boot.slots if slot.role == "registry"))
        self._started = self._begun.since
        self._peer = peer_id_text(HostKey.from_seed(boot.host_seed).peer_id)
        self._version = importlib.metadata.version("frost-relay")
        self.collector = BoardCollector(board, memory_bytes, time.time() - self.uptime_s(), cpu_seconds)
        self._outcomes: tuple[Outcome, ...] = ()
        self.update(boot)
        self.note_reloads(boot.outcomes)

    def update(self, boot: Boot) -> None:
        """Other settings, other addresses, other processes."""
        self._places = [(slot, self._board.row(slot.index)) for slot in boot.slots]
        self.collector.show(self._places)
        self._addresses = [f"{address}/p2p/{self._peer}" for address in boot.announced]
        self._announced_hosts = announced_hosts(boot.announced)
        self._limits = to_tables(boot.settings)["limits"]
        self.memory_limit_bytes = limit_bytes(boot.settings.limits)

    def note_reloads(self, outcomes: tuple[Outcome, ...]) -> None:
        """What came of the latest reloads; an older word that was overtaken changes nothing."""
        if outcomes and (not self._outcomes or outcomes[-1].number > self._outcomes[-1].number):
            self._outcomes = outcomes

    def uptime_s(self) -> float:
        """Seconds since main was started."""
        return self._clock() - self._started

    def gauges(self) -> dict[str, int]:
        """What the relay holds for its peers at this moment, and what all its processes take."""
        return {
            "reservations": totals(self._places, lambda row: row.reservations),
            "circuits": totals(self._places, lambda row: row.circuits),
            "connections": totals(self._places, lambda row: row.connections),
            "memory_bytes": sum(self._memory_bytes(row.pid) for _, row in self._places),
        }

    def canary(self) -> Record | None:
        """What the canary has found; None when there is none, or it has not begun."""
        return record.read(self._runtime_dir) if self._has_canary else None

    def document(self) -> dict[str, Any]:
        """The content of /status.json."""
        return {
            "peer_id": self._peer,
            "addresses": self._addresses,
            "version": self._version,
            "uptime_s": round(self.uptime_s(), 3),
            "limits": self._limits,
            "ready": not self.not_ready(),
            **self.gauges(),
            "memory_limit_bytes": self.memory_limit_bytes,
            "memory_short": self._memory_is_short(),
            "pending_handshakes": totals(self._places, lambda row: row.pending_handshakes),
            "unannounced": [{"host": each.host, "announce": each.address} for each in self.unannounced()],
            "certificates": [
                {"listener": slot.listener, "expires": expires_unix_s, "days_left": round(days_left, 1)}
                for slot, expires_unix_s, days_left in certificates(self._places, time.time())
            ],
            "reload": {
                "begun": self._begun.reload,
                "outcomes": [_reload(outcome) for outcome in self._outcomes],
            },
            "workers": [
                {"name": slot.name, "role": slot.role, "listener": slot.listener, **self._process(row)}
                for slot, row in self._places
            ],
            "canary": canary.document() if (canary := self.canary()) else None,
            "audit": self._audit(),
            "denied": self._denied(),
        }

    def unannounced(self) -> list[Unannounced]:
        """Hosts that peers come by and no announced address has: a wrong announce list."""
        return [each for each in kept(self._runtime_dir) if each.host not in self._announced_hosts]

    def metrics(self) -> Iterator[Metric]:
        """What only settings, hosts, the registry's audit and the canary tell."""
        yield from of_settings(self._limits, self.memory_limit_bytes, len(self.unannounced()))
        yield from of_audit(self._registry, self._clock())
        canary = self.canary()
        if canary is not None:
            yield from canary.metrics()

    def _audit(self) -> dict[str, Any]:
        registry = self._registry
        age_s = round(self._clock() - registry.audited, 3) if registry.audited else None
        return {"age_s": age_s, "differences": registry.audit_differences, "mended": registry.audit_mended}

    def _denied(self) -> list[dict[str, Any]]:
        """Who is kept out because workers died of what he had sent."""
        now_s = self._clock()
        return [
            {**who(each.label), "crashes": each.crashes, "left_s": round(each.until_s - now_s, 3)}
            for each in self._blame.denied(now_s)
        ]

    def _process(self, row: BoardRow) -> dict[str, Any]:
        return {
            "pid": row.pid,
            "state": row.state.name.lower(),
            "uptime_s": round(self._clock() - row.since, 3) if row.pid else 0.0,
            "restarts": row.restarts,
            "last_end": self._last_end(row),
            "reload": row.reload,
            "connections": row.connections,
            "reservations": row.reservations,
            "circuits": row.circuits,
            "memory_bytes": self._memory_bytes(row.pid),
            "loop_lag_s": round(row.loop_lag_s, 4),
            "sheds": bool(row.sheds),
        }

    def _last_end(self, row: BoardRow) -> dict[str, Any] | None:
        if not row.ended:
            return None
        return {"how": how_ended(row.end_code), "ago_s": round(self._clock() - row.ended, 3)}

    def not_ready(self) -> list[str]:
        """Which slots do not serve, and what they do instead. A worker that drains alone serves; its relay does not.

        Nobody is served by the canary, nobody new by who leaves, and nobody new while memory is short.
        """
        if any(slot.role == "supervisor" and row.state is State.DRAINING for slot, row in self._places):
            return ["draining"]
        serving = {State.READY, State.DRAINING}
        needed = [(slot, row) for slot, row in self._places if slot.role != "canary" and not slot.leaving]
        waiting = [(slot, row) for slot, row in needed if row.state not in serving]
        short = ["memory short"] if self._memory_is_short() else []
        return [f"{slot.name} {row.state.name.lower()}" for slot, row in waiting] + short

    def _memory_is_short(self) -> bool:
        return any(row.sheds for slot, row in self._places if slot.role == "admin")


def _reload(outcome: Outcome) -> dict[str, Any]:
    return {
        "number": outcome.number,
        "ok": not outcome.error,
        "error": outcome.error,
        "needs_restart": list(outcome.needs_restart),
        "late": list(outcome.late),
        "at": outcome.at_unix_s,
    }
