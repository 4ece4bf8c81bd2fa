"""What /metrics says: the workers' counters added up, and gauges from the board, in Prometheus' text form.

Read only. The counters themselves are defined in actors/metrics.py and written by each process into its slot's file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from actors import histograms
from actors.board import Board, BoardRow, State
from actors.histograms import Histogram
from actors.messages import Slot
from supervisor.go_metrics import GoMetrics, values

_SHOWN_LIMITS: Final = ("max_reservations", "max_circuits", "max_connections", "max_pending_handshakes")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class BoardCollector:
    """The board as metrics, read at each scrape."""

    def __init__(
        self,
        board: Board,
        memory_bytes: Callable[[int], int],
        started_s: float,
        cpu_seconds: Callable[[int], float],
    ) -> None:
        self._board = board
        self._places: Sequence[tuple[Slot, BoardRow]] = ()
        self._memory_bytes = memory_bytes
        self._started_s = started_s
        self._cpu_seconds = cpu_seconds
        self._go = GoMetrics()

    def show(self, places: Sequence[tuple[Slot, BoardRow]]) -> None:
        """These are the processes there are."""
        self._places = places

    def go_metrics(self, counted: Sequence[Metric]) -> Iterator[Metric]:
        """What go-libp2p's relay would say, from the counters and the board."""
        held = totals(self._places, lambda row: row.reservations)
        ready = all(
            row.state is State.READY for slot, row in self._places if slot.role == "listener" and not slot.leaving
        )
        return self._go.collect(
            values(counted), held, ready, lambda name: self._histogram(histograms.CIRCUIT_DURATION, name)
        )

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
        for each in histograms.ALL:
            yield self._histogram(each)

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

    def _histogram(self, histogram: Histogram, name: str = "") -> HistogramMetricFamily:
        rows = self._board.used()  # a listener that is gone has measured too
        up_to, buckets = 0, []
        for bound, *counts in zip([*map(str, histogram.bounds), "+Inf"], *map(histogram.counts, rows), strict=True):
            up_to += sum(counts)
            buckets.append((bound, up_to))
        return HistogramMetricFamily(name or histogram.name, histogram.help, buckets, sum(map(histogram.sum, rows)))

    def _processes(self) -> Iterator[Metric]:
        labels = ["actor", "role"]
        ready = GaugeMetricFamily("frost_relay_process_ready", "1 when the process serves.", labels=labels)
        restarts = CounterMetricFamily("frost_relay_restarts", "Restarts by actor.", labels=labels)
        memory = GaugeMetricFamily("frost_relay_process_memory_bytes", "Proportional set size.", labels=labels)
        cpu = CounterMetricFamily("frost_relay_process_cpu_seconds", "CPU time, by actor.", labels=labels)
        lag = GaugeMetricFamily("frost_relay_process_loop_lag_seconds", "Delay of the latest beat.", labels=labels)
        sheds = GaugeMetricFamily(
            "frost_relay_process_sheds", "1: newcomers wait (a listener's) or are refused (the admin's).", labels=labels
        )
        dropped = CounterMetricFamily("frost_relay_log_lines_dropped", "Log lines nobody read.", labels=labels)
        state = GaugeMetricFamily("frost_relay_process_state", "1 for its state.", labels=[*labels, "state"])
        for slot, row in self._places:
            who = [slot.name, slot.role]
            ready.add_metric(who, row.state is State.READY)
            restarts.add_metric(who, row.restarts)
            memory.add_metric(who, self._memory_bytes(row.pid))
            cpu.add_metric(who, self._cpu_seconds(row.pid))
            lag.add_metric(who, row.loop_lag_s)
            sheds.add_metric(who, row.sheds)
            dropped.add_metric(who, row.log_lines_dropped)
            state.add_metric([*who, row.state.name.lower()], 1)
        yield from (ready, restarts, memory, cpu, lag, sheds, dropped, state)


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
        if expires_unix_s and not slot.leaving and (known is None or expires_unix_s < known[1]):
            first[slot.listener_index] = slot, expires_unix_s
    return [(slot, expires, (expires - now_unix_s) / 86_400) for slot, expires in first.values()]


def of_settings(limits: Mapping[str, Any], memory_limit_bytes: int, unannounced: int) -> Iterator[Metric]:
    """How much there may be of what the gauges count, and whether the announce list is wrong."""
    family = GaugeMetricFamily("frost_relay_limit", "The limit in force, by its setting in [limits].", labels=["limit"])
    for name in _SHOWN_LIMITS:
        family.add_metric([name], limits[name])
    yield family
    yield GaugeMetricFamily("frost_relay_memory_limit_bytes", "Above it nobody new is taken.", memory_limit_bytes)
    yield GaugeMetricFamily(
        "frost_relay_unannounced_hosts", "Hosts that peers come by and no announced address has.", unannounced
    )


def _counted(directory: str) -> Iterable[Metric]:
    """The counters of all processes, added up.

    A file that is being made (supervisor/counter_files.py) has no byte for a moment: it counts nothing yet.
    """
    files = [str(file) for file in Path(directory).glob("*.db") if file.stat().st_size]
    counted: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
    return counted


def of_audit(registry: BoardRow, now_s: float) -> Iterator[Metric]:
    """What the registry's audit has found, from its row of the board."""
    name = "frost_relay_registry_audit"
    if registry.audited:
        age_s = now_s - registry.audited
        yield GaugeMetricFamily(f"{name}_age_seconds", "Since when every worker has been compared.", age_s)
    text = "Slots that registry and workers did not agree about at the latest audit."
    yield GaugeMetricFamily(f"{name}_differences", text, registry.audit_differences)
    yield CounterMetricFamily(f"{name}_mended", "Such slots that were mended.", registry.audit_mended)


def exposition(directory: str, board: BoardCollector, others: Iterable[Metric]) -> bytes:
    """The answer to a scrape: the counters in the directory, the board, and what else there is."""
    counted = list(_counted(directory))
    registry = CollectorRegistry()
    for metrics in (counted, board.collect(), board.go_metrics(counted), others):
        registry.register(_Collected(list(metrics)))
    return generate_latest(registry)


class _Collected:
    """Metrics that are there, as prometheus_client wants them."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Sequence[Metric]:
        """They."""
        return self._metrics


def refusals(directory: str) -> dict[str, int]:
    """How many were refused since the relay was started, by reason; from the counters' directory."""
    return {
        sample.labels["reason"]: int(sample.value)
        for metric in _counted(directory)
        if metric.name == "frost_relay_refusals"
        for sample in metric.samples
    }
