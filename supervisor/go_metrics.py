"""The metrics of go-libp2p's relay under their own names, so that its Grafana dashboards show this relay too.

Derived at each scrape from what is counted anyway: nothing is counted twice. Names, labels and their values are those
of go-libp2p's p2p/protocol/circuitv2/relay/metrics.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from actors.limits import Status

_PREFIX: Final = "libp2p_relaysvc"

Sample = tuple[str, frozenset[tuple[str, str]]]
Values = Mapping[Sample, float]
"""Values by name and labels."""

# go's getResponseStatus and getRejectionReason.
_ERRORS: Final = frozenset({Status.UNEXPECTED_MESSAGE, Status.CONNECTION_FAILED})
_REASONS: Final = {
    Status.RESERVATION_REFUSED: "ip constraint violation",
    Status.RESOURCE_LIMIT_EXCEEDED: "resource limit exceeded",
    Status.PERMISSION_DENIED: "permission denied",
    Status.NO_RESERVATION: "no reservation",
    Status.MALFORMED_MESSAGE: "malformed message",
}


def values(metrics: Iterable[Metric]) -> Values:
    """What the counters stand at."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value for metric in metrics for sample in metric.samples
    }


class GoMetrics:
    """Keeps what counters may not do: go down, when two figures were read a moment apart."""

    def __init__(self) -> None:
        self._reservations_closed = 0.0

    def collect(self, counted: Values, held: int, ready: bool, durations: Callable[[str], Metric]) -> Iterator[Metric]:
        """All of go's metrics; `held` reservations are there now, `durations(name)` is how long circuits lasted."""
        yield GaugeMetricFamily(f"{_PREFIX}_status", "Relay Status", float(ready))
        new = _get(counted, "frost_relay_reservations_granted_total", kind="new")
        renewed = _get(counted, "frost_relay_reservations_granted_total", kind="renewed")
        opened = _get(counted, "frost_relay_circuits_opened_total")
        self._reservations_closed = max(self._reservations_closed, new - held)
        closed = _sum(counted, "frost_relay_circuits_ended_total")
        by_type = {"opened": new, "renewed": renewed, "closed": self._reservations_closed}
        yield _counter("reservations", "Relay Reservation Request", "type", by_type)
        yield from _answers("reservation", "Reservation", new + renewed, _refused(counted, "reserve"))
        by_type = {"opened": opened, "closed": closed}
        yield _counter("connections", "Relay Connection Total", "type", by_type)
        yield from _answers("connection", "Connection", opened, _refused(counted, "connect"))
        yield durations(f"{_PREFIX}_connection_duration_seconds")
        relayed = _sum(counted, "frost_relay_relayed_bytes_total")
        yield CounterMetricFamily(f"{_PREFIX}_data_transferred_bytes", "Bytes Transferred Total", value=relayed)


def _answers(asked: str, title: str, granted: float, refused: Mapping[Status, float]) -> Iterator[Metric]:
    errors = sum(count for status, count in refused.items() if status in _ERRORS)
    rejected = {reason: refused.get(status, 0.0) for status, reason in _REASONS.items()}
    by_status = {"ok": granted, "rejected": sum(rejected.values()), "error": errors}
    yield _counter(f"{asked}_request_response_status", f"Relay {title} Request Response Status", "status", by_status)
    yield _counter(f"{asked}_rejections", f"Relay {title} Rejected Reason", "reason", rejected)


def _counter(name: str, help_text: str, label: str, by_label: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(f"{_PREFIX}_{name}", help_text, labels=[label])
    for value, count in by_label.items():
        family.add_metric([value], count)
    return family


def _get(counted: Values, name: str, **labels: str) -> float:
    return counted.get((name, frozenset(labels.items())), 0.0)


def _sum(counted: Values, name: str) -> float:
    return sum(count for (each, _), count in counted.items() if each == name)


def _refused(counted: Values, asked: str) -> dict[Status, float]:
    name = "frost_relay_requests_refused_total"
    return {status: _get(counted, name, asked=asked, status=status.name.lower()) for status in Status}
