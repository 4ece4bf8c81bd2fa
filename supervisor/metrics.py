"""What /metrics says: the workers' counters added up, and gauges from the board, in Prometheus' text form.

Read only. The counters themselves are defined in actors/metrics.py and written by each process into its slot's file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from actors.board import BoardRow, State
from actors.messages import Slot

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class BoardCollector:
    """The board as metrics, read at each scrape."""

    def __init__(
        self,
        slots: Sequence[Slot],
        row: Callable[[int], BoardRow],
        memory_bytes: Callable[[int], int],
        started_s: float,
    ) -> None:
        self._places = [(slot, row(slot.index)) for slot in slots]
        self._memory_bytes = memory_bytes
        self._started_s = started_s

    def collect(self) -> Iterator[Metric]:
        """All metrics of the board."""
        yield self._total("frost_relay_reservations", "Reservations held.", lambda row: row.reservations)
        yield self._total("frost_relay_circuits", "Circuits open.", lambda row: row.circuits)
        yield self._total("frost_relay_connections", "Connections open.", lambda row: row.connections)
        yield self._total(
            "frost_relay_pending_handshakes", "Connections not yet upgraded.", lambda row: row.pending_handshakes
        )
        yield self._certificates()
        yield GaugeMetricFamily("frost_relay_start_time_seconds", "When the relay was started.", self._started_s)
        yield from self._processes()

    def _total(self, name: str, help_text: str, count: Callable[[BoardRow], int]) -> Metric:
        return GaugeMetricFamily(name, help_text, totals(self._places, count))

    def _certificates(self) -> Metric:
        expiry = GaugeMetricFamily(
            "frost_relay_certificate_expiry_timestamp_seconds",
            "When the certificate that a listener serves ends.",
            labels=["listener"],
        )
        for slot, expires_unix_s, _ in certificates(self._places, 0.0):
            expiry.add_metric([slot.listener], expires_unix_s)
        return expiry

    def _processes(self) -> Iterator[Metric]:
        labels = ["actor", "role"]
        ready = GaugeMetricFamily("frost_relay_process_ready", "1 when the process serves.", labels=labels)
        restarts = CounterMetricFamily("frost_relay_restarts", "Restarts by actor.", labels=labels)
        memory = GaugeMetricFamily("frost_relay_process_memory_bytes", "Proportional set size.", labels=labels)
        dropped = CounterMetricFamily("frost_relay_log_lines_dropped", "Log lines nobody read.", labels=labels)
        state = GaugeMetricFamily("frost_relay_process_state", "1 for its state.", labels=[*labels, "state"])
        for slot, row in self._places:
            who = [slot.name, slot.role]
            ready.add_metric(who, row.state is State.READY)
            restarts.add_metric(who, row.restarts)
            memory.add_metric(who, self._memory_bytes(row.pid))
            dropped.add_metric(who, row.log_lines_dropped)
            state.add_metric([*who, row.state.name.lower()], 1)
        yield from (ready, restarts, memory, dropped, state)


def totals(places: Sequence[tuple[Slot, BoardRow]], count: Callable[[BoardRow], int]) -> int:
    """The sum over all listeners. The registry's row holds totals of its own, which would count twice."""
    return sum(count(row) for slot, row in places if slot.role == "listener")


def certificates(places: Sequence[tuple[Slot, BoardRow]], now_unix_s: float) -> list[tuple[Slot, int, float]]:
    """For each listener with a certificate: one of its slots, when the certificate ends, and in how many days.

    Of several workers, the one whose certificate ends first: it is the one that has not taken a renewed one.
    """
    first: dict[int, tuple[Slot, int]] = {}
    for slot, row in places:
        expires_unix_s = row.certificate_expires_unix_s
        known = first.get(slot.listener_index)
        if expires_unix_s and (known is None or expires_unix_s < known[1]):
            first[slot.listener_index] = slot, expires_unix_s
    return [(slot, expires, (expires - now_unix_s) / 86_400) for slot, expires in first.values()]


def exposition(directory: str, board: BoardCollector) -> bytes:
    """The answer to a scrape, from the counters' directory and the board."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=directory)  # type: ignore[no-untyped-call]
    registry.register(board)
    return generate_latest(registry)


def refusals(directory: str) -> dict[str, int]:
    """How many were refused since the relay was started, by reason; from the counters' directory."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=directory)  # type: ignore[no-untyped-call]
    return {
        sample.labels["reason"]: int(sample.value)
        for metric in registry.collect()
        if metric.name == "frost_relay_refusals"
        for sample in metric.samples
    }
