"""go-libp2p's names, derived from our counts."""

from __future__ import annotations

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from supervisor.go_metrics import GoMetrics, values


def counter(name: str, label: str, **counts: float) -> Metric:
    family = CounterMetricFamily(name, "", labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def refused(*rows: tuple[str, str, float]) -> Metric:
    family = CounterMetricFamily("frost_relay_requests_refused", "", labels=["asked", "status"])
    for asked, status, count in rows:
        family.add_metric([asked, status], count)
    return family


def duration(name: str) -> Metric:
    return GaugeMetricFamily(name, "", 1.0)


def said(go: GoMetrics, held: int, *metrics: Metric, ready: bool = True) -> dict[tuple[str, str], float]:
    return {
        (sample.name.removeprefix("libp2p_relaysvc_"), "".join(sample.labels.values())): sample.value
        for metric in go.collect(values(metrics), held, ready, duration)
        for sample in metric.samples
    }


def test_every_figure_is_derived_from_one_of_ours() -> None:
    figures = said(
        GoMetrics(),
        3,
        counter("frost_relay_reservations_granted", "kind", new=10.0, renewed=5.0),
        CounterMetricFamily("frost_relay_circuits_opened", "", value=7.0),
        counter("frost_relay_circuits_ended", "reason", finished=4.0, reset=2.0),
        counter("frost_relay_relayed_bytes", "direction", to_target=100.0, to_source=20.0),
        refused(
            ("reserve", "reservation_refused", 2.0),
            ("connect", "no_reservation", 3.0),
            ("connect", "connection_failed", 1.0),
            ("hop", "malformed_message", 9.0),
        ),
    )
    assert figures["status", ""] == 1
    assert [figures["reservations_total", kind] for kind in ("opened", "renewed", "closed")] == [10, 5, 7]
    assert [figures["connections_total", kind] for kind in ("opened", "closed")] == [7, 6]
    assert figures["data_transferred_bytes_total", ""] == 120
    reserved, connected = "reservation_request_response_status_total", "connection_request_response_status_total"
    assert [figures[reserved, each] for each in ("ok", "rejected", "error")] == [15, 2, 0]
    assert [figures[connected, each] for each in ("ok", "rejected", "error")] == [7, 3, 1]
    assert figures["reservation_rejections_total", "ip constraint violation"] == 2
    assert figures["connection_rejections_total", "no reservation"] == 3
    assert figures["connection_duration_seconds", ""] == 1


def test_without_any_count_everything_is_there_and_zero() -> None:
    figures = said(GoMetrics(), 0, ready=False)
    assert figures.pop(("connection_duration_seconds", "")) == 1
    assert set(figures.values()) == {0}


def test_a_counter_does_not_go_down_when_its_figures_were_read_a_moment_apart() -> None:
    go = GoMetrics()
    before = said(go, 3, counter("frost_relay_reservations_granted", "kind", new=10.0))
    after = said(go, 4, counter("frost_relay_reservations_granted", "kind", new=10.0))
    assert before["reservations_total", "closed"] == after["reservations_total", "closed"] == 7
