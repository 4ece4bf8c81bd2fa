"""Dashboard and alert rules name what a running relay really says, go-libp2p's own dashboard included."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.limits import Reason
from tests.support.relay import RelayProcess
from tests.support.toolchain import required_program

DEPLOY = Path(__file__).parents[2] / "config" / "deploy"
ALERTS = DEPLOY / "alerts.yml"
DASHBOARD = json.loads((DEPLOY / "grafana-dashboard.json").read_text("utf-8"))

# What the panels of go-libp2p's dashboards/relaysvc/relaysvc.json ask for: name, label, value.
GO_DASHBOARD = [
    ("libp2p_relaysvc_status", "", ""),
    ("libp2p_relaysvc_reservations_total", "type", "opened"),
    ("libp2p_relaysvc_reservations_total", "type", "renewed"),
    ("libp2p_relaysvc_reservations_total", "type", "closed"),
    ("libp2p_relaysvc_reservation_request_response_status_total", "status", "ok"),
    ("libp2p_relaysvc_reservation_rejections_total", "reason", "ip constraint violation"),
    ("libp2p_relaysvc_data_transferred_bytes_total", "", ""),
    ("libp2p_relaysvc_connections_total", "type", "opened"),
    ("libp2p_relaysvc_connections_total", "type", "closed"),
    ("libp2p_relaysvc_connection_request_response_status_total", "status", "rejected"),
    ("libp2p_relaysvc_connection_rejections_total", "reason", "no reservation"),
    ("libp2p_relaysvc_connection_duration_seconds_sum", "", ""),
    ("libp2p_relaysvc_connection_duration_seconds_count", "", ""),
]


@pytest.fixture(scope="module")
def scrape() -> Iterator[str]:
    with RelayProcess() as relay:
        status, text = relay.get("/metrics")
        assert status == 200
        yield text


def names(scrape: str) -> set[str]:
    return {re.split(r"[{ ]", line, maxsplit=1)[0] for line in scrape.splitlines() if line and line[0] != "#"}


def alert_expressions() -> list[str]:
    return re.findall(r"^ +expr: (.*)$", ALERTS.read_text("utf-8"), re.MULTILINE)


def dashboard_expressions() -> list[str]:
    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                if key in {"expr", "query"} and isinstance(value, str):
                    yield value
                else:
                    yield from walk(value)
        elif isinstance(node, list):
            for each in node:
                yield from walk(each)

    return list(walk(DASHBOARD))


def asked_for(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:frost_relay|libp2p)_\w+", expression))


def test_every_alert_asks_for_metrics_that_are_there_from_the_start(scrape: str) -> None:
    """An alert on a series that does not exist never fires."""
    expressions = alert_expressions()
    assert len(expressions) == ALERTS.read_text("utf-8").count("alert:")
    for expression in expressions:
        assert asked_for(expression) <= names(scrape), expression
        assert asked_for(expression) or expression.startswith("up{")


def test_every_panel_asks_for_metrics_that_a_relay_has(scrape: str) -> None:
    at_first_use = {"frost_relay_peer_errors_total"}  # its reasons are many, and each appears with the first such error
    expressions = dashboard_expressions()
    assert len(expressions) > len(DASHBOARD["panels"])
    for expression in expressions:
        assert asked_for(expression) <= names(scrape) | at_first_use, expression


def test_labels_in_rules_and_panels_have_values_that_there_are(scrape: str) -> None:
    reasons = {reason.value for reason in Reason}
    for expression in (*alert_expressions(), *dashboard_expressions()):
        for values in re.findall(r'reason=~?"([^"]*)"', expression):
            assert set(values.split("|")) <= reasons
        for limit in re.findall(r'limit="(\w+)"', expression):
            assert f'frost_relay_limit{{limit="{limit}"}}' in scrape


@pytest.mark.parametrize(("name", "label", "value"), GO_DASHBOARD)
def test_go_libp2ps_own_dashboard_finds_its_series(scrape: str, name: str, label: str, value: str) -> None:
    series = f'{name}{{{label}="{value}"}} ' if label else f"{name} "
    assert f"\n{series}" in scrape


def test_panels_lie_beside_and_below_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_prometheus_takes_the_rules(tmp_path: Path) -> None:
    done = subprocess.run(
        [required_program("promtool"), "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_panels_expressions(tmp_path: Path) -> None:
    """As rules, with Grafana's variables filled in."""
    expressions = [
        each.replace("$__rate_interval", "5m").replace("$instance", ".*")
        for each in dashboard_expressions()
        if asked_for(each) and not each.startswith("label_values")
    ]
    rules = [{"record": f"panel:{number}", "expr": each} for number, each in enumerate(expressions)]
    file = tmp_path / "panels.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))  # JSON is YAML
    done = subprocess.run(
        [required_program("promtool"), "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_reads_a_scrape(scrape: str) -> None:
    done = subprocess.run(
        [required_program("promtool"), "check", "metrics"], input=scrape, capture_output=True, text=True, check=False
    )
    assert "error" not in done.stderr.lower(), done.stderr
    assert done.returncode in {0, 3}, done.stderr  # 3: it has advice about names, which are go-libp2p's or promised
