from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from actors.blame import DENIED_S, of_address
from actors.board import Board, State
from actors.messages import Boot, Outcome, Slot
from config.settings import Limits, Settings
from supervisor import plan
from supervisor.admin.memory import FRESH_S, Memory, read_memory_bytes
from supervisor.admin.status import Status
from supervisor.memory_limit import limit_bytes
from transports.identity import HostKey, peer_id_text

SLOTS = (
    plan.MAIN,
    plan.SYSTEM,
    plan.SUPERVISOR,
    plan.REGISTRY,
    Slot(4, "ws-9091/0", "listener", listener="/ip4/0.0.0.0/tcp/9091/ws"),
    Slot(5, "tcp-9090/0", "listener", listener="/ip4/0.0.0.0/tcp/9090"),
    Slot(6, "admin", "admin"),
)


def make() -> tuple[Board, Status]:
    board = Board.create(len(SLOTS))
    for slot in SLOTS:
        row = board.row(slot.index)
        row.pid, row.state, row.since = 100 + slot.index, State.READY, 1000.0
    boot = Boot(SLOTS[6], Settings(), "/nowhere", board.fd, -1, b"s" * 32, ("/ip4/192.0.2.1/tcp/9090",), SLOTS)
    return board, Status(boot, board, memory_bytes=lambda pid: pid * 1000, clock=lambda: 1012.5)


def test_the_document_has_exactly_what_was_promised() -> None:
    board, status = make()
    board.row(4).connections, board.row(5).connections = 3, 4
    board.row(4).reservations, board.row(5).circuits = 2, 1
    board.row(3).connections, board.row(3).reservations, board.row(3).circuits = 7, 2, 1  # the registry's own totals
    board.row(4).restarts = 5
    document = status.document()
    peer = peer_id_text(HostKey.from_seed(b"s" * 32).peer_id)
    assert document["peer_id"] == peer
    assert document["addresses"] == [f"/ip4/192.0.2.1/tcp/9090/p2p/{peer}"]
    assert document["uptime_s"] == 12.5
    assert document["limits"]["max_reservations"] == 1024
    assert document["limits"]["reservation_rate_per_peer"] == "30/1h"
    assert (document["connections"], document["reservations"], document["circuits"]) == (7, 2, 1)
    assert list(document) == [
        "peer_id", "addresses", "version", "uptime_s", "limits", "ready",
        "reservations", "circuits", "connections", "memory_bytes", "memory_limit_bytes", "memory_short",
        "pending_handshakes",
        "unannounced", "certificates", "reload", "workers", "canary", "audit", "denied",
    ]  # fmt: skip
    assert [each["name"] for each in document["workers"]] == [slot.name for slot in SLOTS]
    assert document["workers"][4] == {
        "name": "ws-9091/0", "role": "listener", "pid": 104, "listener": "/ip4/0.0.0.0/tcp/9091/ws", "state": "ready",
        "uptime_s": 12.5, "last_end": None,
        "restarts": 5, "reload": 0, "connections": 3, "reservations": 2, "circuits": 0, "memory_bytes": 104_000,
        "loop_lag_s": 0.0, "sheds": False,
    }  # fmt: skip


def test_a_process_that_was_replaced_says_how_the_one_before_ended_and_since_when_it_runs() -> None:
    board, status = make()
    row = board.row(4)
    row.since, row.ended, row.end_code = 1010.5, 1010.25, -signal.SIGKILL
    worker = status.document()["workers"][4]
    assert worker["last_end"] == {"how": "SIGKILL", "ago_s": 2.25}
    assert worker["uptime_s"] == 2.0
    row.pid, row.end_code = 0, 70
    worker = status.document()["workers"][4]
    assert worker["last_end"]["how"] == "exit code 70"
    assert worker["uptime_s"] == 0.0


def test_the_audit_is_shown_with_its_age_and_as_metrics() -> None:
    board, status = make()
    assert status.document()["audit"] == {"age_s": None, "differences": 0, "mended": 0}
    registry = board.row(3)
    registry.audited, registry.audit_differences, registry.audit_mended = 1010.0, 2, 5
    assert status.document()["audit"] == {"age_s": 2.5, "differences": 2, "mended": 5}
    samples = {sample.name: sample.value for metric in status.metrics() for sample in metric.samples}
    assert samples["frost_relay_registry_audit_age_seconds"] == 2.5
    assert samples["frost_relay_registry_audit_differences"] == 2
    assert samples["frost_relay_registry_audit_mended_total"] == 5


def test_who_is_denied_for_crashing_processes_is_shown_as_long_as_it_is() -> None:
    board, status = make()
    assert status.document()["denied"] == []
    board.blame.deny(of_address("192.0.2.1"), 2, 1012.5 - DENIED_S)
    board.blame.deny(of_address("192.0.2.2"), 2, 1000.0)
    assert status.document()["denied"] == [{"address": "192.0.2.2", "crashes": 2, "left_s": DENIED_S - 12.5}]


def test_memory_is_that_of_all_processes_and_handshakes_those_of_the_listeners() -> None:
    board, status = make()
    board.row(4).pending_handshakes, board.row(5).pending_handshakes = 2, 3
    document = status.document()
    assert document["memory_bytes"] == sum(each["memory_bytes"] for each in document["workers"]) == 721_000
    assert document["pending_handshakes"] == 5


def test_readiness_names_who_does_not_serve() -> None:
    board, status = make()
    assert status.not_ready() == []
    assert status.document()["ready"]
    board.row(4).state = State.FAILED
    board.row(3).state = State.STARTING
    assert status.not_ready() == ["registry starting", "ws-9091/0 failed"]
    assert not status.document()["ready"]


def test_a_relay_that_is_short_of_memory_is_not_ready_and_says_why() -> None:
    board, status = make()
    assert not status.document()["memory_short"]
    assert status.document()["memory_limit_bytes"] == limit_bytes(Limits())
    board.row(6).sheds = 1
    assert status.not_ready() == ["memory short"]
    assert status.document()["memory_short"]


def test_a_worker_that_lets_newcomers_wait_is_shown_and_serves() -> None:
    board, status = make()
    board.row(4).sheds = 1
    assert status.not_ready() == []
    assert [each["sheds"] for each in status.document()["workers"]] == [False] * 4 + [True, False, False]


def test_a_process_has_memory_and_none_has_none() -> None:
    assert read_memory_bytes(os.getpid()) > 1_000_000
    assert read_memory_bytes(0) == 0
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert read_memory_bytes(process.pid) == 0


def test_a_figure_is_used_for_a_moment_and_then_read_again() -> None:
    now, reads = [0.0], [0]

    def read(pid: int) -> int:
        reads[0] += 1
        return pid + reads[0]

    memory = Memory(read, lambda: now[0])
    assert (memory(100), memory(100), memory(200)) == (101, 101, 202)
    now[0] = FRESH_S
    assert memory(100) == 103


def test_metrics_are_added_up_over_processes_and_survive_them(tmp_path: Path) -> None:
    program = (
        "import sys; from actors import metrics\n"
        "metrics.adopt(sys.argv[1])\n"
        "metrics.REFUSALS.labels('circuits_full').inc(int(sys.argv[2]))\n"
    )
    for owner, amount in (("4", 2), ("5", 3), ("4", 10)):  # the third is the first one's successor
        subprocess.run(
            [sys.executable, "-c", program, owner, str(amount)],
            check=True, cwd=Path(__file__).parents[3], env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        )  # fmt: skip
    board, status = make()
    board.row(4).reservations = 9
    board.row(4).restarts = 2
    from supervisor.metrics import exposition, refusals  # noqa: PLC0415

    assert refusals(str(tmp_path))["circuits_full"] == 15
    text = exposition(str(tmp_path), status.collector, status.metrics()).decode()
    assert 'frost_relay_refusals_total{reason="circuits_full"} 15.0' in text
    assert "\nfrost_relay_reservations 9.0" in text
    assert 'frost_relay_restarts_total{actor="ws-9091/0",role="listener"} 2.0' in text
    assert 'frost_relay_process_state{actor="admin",role="admin",state="ready"} 1.0' in text
    assert 'frost_relay_process_memory_bytes{actor="admin",role="admin"} 106000.0' in text
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"counter_boot.db", "counter_4.db", "counter_5.db"}, "one file a slot, not one a process"
    started = float(text.split("\nfrost_relay_start_time_seconds ")[1].split()[0])
    assert abs(time.time() - 12.5 - started) < 60


def test_reloads_are_shown_with_what_came_of_them_and_an_older_word_changes_nothing() -> None:
    board, status = make()
    board.row(0).reload = 2
    newer = (Outcome(1, "", ("admin.listen",), ("ws-9091/0",), 5.0), Outcome(2, "limits.x = 1: expected less"))
    status.note_reloads(newer)
    status.note_reloads(newer[:1])
    assert status.document()["reload"] == {
        "begun": 2,
        "outcomes": [
            {"number": 1, "ok": True, "error": "", "needs_restart": ["admin.listen"], "late": ["ws-9091/0"], "at": 5.0},
            {
                "number": 2,
                "ok": False,
                "error": "limits.x = 1: expected less",
                "needs_restart": [],
                "late": [],
                "at": 0.0,
            },
        ],
    }


def test_other_settings_are_shown() -> None:
    board, status = make()
    boot = Boot(
        SLOTS[6],
        Settings(limits=Limits(max_circuits=5)),
        "/nowhere",
        board.fd,
        -1,
        b"s" * 32,
        ("/dns4/a/tcp/1",),
        SLOTS,
    )
    status.update(boot)
    document = status.document()
    assert document["limits"]["max_circuits"] == 5
    assert document["addresses"][0].startswith("/dns4/a/tcp/1/p2p/")


def test_certificates_are_shown_by_listener_with_the_one_that_ends_first() -> None:
    slots = (*SLOTS[:5], replace(SLOTS[4], index=5, name="wss-443/1"), SLOTS[6])
    board, _ = make()
    boot = Boot(SLOTS[6], Settings(), "/nowhere", board.fd, -1, b"s" * 32, ("/dns4/a/tcp/1",), slots)
    soon = int(time.time()) + 10 * 86_400
    board.row(4).certificate_expires_unix_s, board.row(5).certificate_expires_unix_s = soon + 86_400, soon
    status = Status(boot, board, memory_bytes=lambda pid: 0)
    assert status.document()["certificates"] == [{"listener": SLOTS[4].listener, "expires": soon, "days_left": 10.0}]
    metric = next(each for each in status.collector.collect() if "certificate" in each.name)
    assert [(sample.labels, sample.value) for sample in metric.samples] == [({"listener": SLOTS[4].listener}, soon)]
