from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from config.settings import Canary
from supervisor.canary import record
from supervisor.canary.record import Found, Record, Step

FRESH = Record(address="/ip4/192.0.2.1/tcp/9090", interval_s=300.0)
WELL = Found(ok=True, steps=(Step("connect", "ok", 1.5, "there"), Step("second host", "note", 20.0, "connected", "x")))
FULL = Found(
    ok=False, steps=(Step("connect", "ok", 1.0, "there"), Step("reserve", "failed", 7.0, "it is full", "more"))
)


def test_it_looks_at_the_first_announced_address_unless_another_is_named() -> None:
    announced = ("/ip4/192.0.2.1/tcp/9090", "/ip4/192.0.2.1/tcp/9091/ws")
    assert record.fresh(Canary(interval_s=60), announced, "P").address == "/ip4/192.0.2.1/tcp/9090/p2p/P"
    named = Canary(interval_s=60, address="wss://relay.example.org/secret")
    assert record.fresh(named, announced, "P").address == "/dns/relay.example.org/tcp/443/tls/ws"


def test_a_run_that_is_well_is_the_last_success() -> None:
    after = FRESH.after(WELL, 1000.0)
    assert (after.ok, after.runs, after.failures) == (True, 1, 0)
    assert after.last_run_unix_s == after.last_success_unix_s == 1000.0
    assert after.steps == {"connect": 0.0015, "second host": 0.02}
    assert after.failing_since_unix_s is None


def test_failures_in_a_row_began_with_the_first() -> None:
    first = FRESH.after(WELL, 1000.0).after(FULL, 1300.0)
    assert (first.ok, first.failed_step, first.cause, first.remedy) == (False, "reserve", "it is full", "more")
    second = first.after(FULL, 1600.0)
    assert (second.runs, second.failures) == (3, 2)
    assert second.failing_since_unix_s == 1300.0
    assert second.last_success_unix_s == 1000.0
    well = second.after(WELL, 1900.0)
    assert (well.ok, well.failing_since_unix_s, well.failed_step, well.cause, well.remedy) == (True, None, "", "", "")


def test_it_survives_in_its_file(tmp_path: Path) -> None:
    assert record.read(str(tmp_path)) is None
    after = FRESH.after(WELL, 1000.0).after(FULL, 1300.0)
    record.write(str(tmp_path), after)
    assert record.read(str(tmp_path)) == after
    assert [each.name for each in tmp_path.iterdir()] == [record.FILE]


def test_a_file_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / record.FILE).write_bytes(b'{"address": 5}')
    assert record.read(str(tmp_path)) is None


def test_the_document_names_all_that_the_status_shows() -> None:
    assert list(FRESH.document()) == [
        "address", "interval_s", "runs", "failures", "ok", "last_run_unix_s", "last_success_unix_s",
        "failing_since_unix_s", "failed_step", "cause", "remedy", "steps",
    ]  # fmt: skip


class Shown(Collector):
    def __init__(self, known: Record) -> None:
        self._known = known

    def collect(self) -> Iterator[Metric]:
        return self._known.metrics()


def exposition(known: Record) -> str:
    registry = CollectorRegistry()
    registry.register(Shown(known))
    return generate_latest(registry).decode()


def test_the_metrics_have_the_outcome_the_times_and_each_step() -> None:
    text = exposition(FRESH.after(WELL, 1000.0).after(FULL, 1300.0))
    for line in (
        'frost_relay_canary_runs_total{outcome="ok"} 1.0',
        'frost_relay_canary_runs_total{outcome="failed"} 1.0',
        "frost_relay_canary_up 0.0",
        "frost_relay_canary_last_run_timestamp_seconds 1300.0",
        "frost_relay_canary_last_success_timestamp_seconds 1000.0",
        'frost_relay_canary_step_seconds{step="reserve"} 0.007',
    ):
        assert line in text.splitlines()
    assert 'step="second_host"' in exposition(FRESH.after(WELL, 1000.0))


def test_nothing_is_said_of_runs_that_were_not() -> None:
    assert "frost_relay_canary_up" not in exposition(FRESH)
