from __future__ import annotations

from typing import Any

from supervisor.cli.status import render

PEER = "12D3KooWHqDqb8Bh9CzFFBMVdbDYH6pZxcyX2nAVqT2ycpxyRLdC"


def document(**changed: Any) -> dict[str, Any]:
    process = {"listener": "", "state": "ready", "pid": 4_194_303, "uptime_s": 86_399.0, "restarts": 12,
               "connections": 19_999, "reservations": 19_999, "circuits": 9_999, "memory_bytes": 1 << 30,
               "sheds": False}  # fmt: skip
    return {
        "version": "0.1.0", "peer_id": PEER, "ready": True, "uptime_s": 100_000.0, "reservations": 40_000,
        "circuits": 12, "connections": 40_001, "pending_handshakes": 3, "refusals": {"circuits_full": 7, "kicked": 0},
        "limits": {"max_reservations": 40_000, "max_circuits": 16, "max_connections": 1_000_000,
                   "max_pending_handshakes": 256},
        "memory_limit_bytes": 6 << 30, "memory_short": False,
        "workers": [{"name": "main", "role": "main", **process},
                    {"name": "wss-65535/15", "role": "listener", **process},
                    {"name": "tcp-9090/0", "role": "listener", **process, "state": "starting", "pid": 0}],
        "certificates": [], "reload": {"begun": 0, "outcomes": []},
        "audit": {"age_s": 4.2, "differences": 0, "mended": 0}, "denied": [],
        **changed,
    }  # fmt: skip


def test_a_full_relay_fits_80_columns() -> None:
    assert max(map(len, render(document()).splitlines())) <= 80


def test_totals_stand_beside_their_limits() -> None:
    lines = render(document()).splitlines()
    assert any(line.split() == ["reservations", "40000", "40000"] for line in lines)
    assert any(line.split() == ["pending", "handshakes", "3", "256"] for line in lines)


def test_only_workers_hold_something_and_only_the_living_have_a_pid() -> None:
    lines = render(document()).splitlines()
    (main,) = (line.split() for line in lines if line.startswith("main"))
    (tcp,) = (line.split() for line in lines if line.startswith("tcp-9090/0"))
    assert main[-3:] == ["-", "-", "-"]
    assert tcp[1:4] == ["starting", "-", "-"]
    assert tcp[-3:] == ["19999", "19999", "9999"]


def test_refusals_are_shown_by_reason_and_zeros_are_not() -> None:
    text = render(document())
    assert "circuits_full            7" in text
    assert "kicked" not in text
    assert render(document(refusals={"kicked": 0})).endswith("nobody was refused")


def test_a_relay_that_takes_nobody_new_says_why() -> None:
    assert "memory 3.0 GiB of 6.0 GiB" in render(document())
    assert render(document(memory_short=True)).endswith("memory is over limits.max_memory_mb: nobody new is taken")
    late = document()
    late["workers"][1]["sheds"] = True
    assert render(late).endswith("wss-65535/15 lags: newcomers wait")


def test_a_relay_that_is_not_ready_says_so() -> None:
    assert "\nnot ready, up 1d 3h" in render(document(ready=False))


def test_what_the_audit_found_is_told_in_one_line() -> None:
    assert "\naudit of the registry, 4s ago: nothing differs, 0 mended since start\n" in render(document())
    found = render(document(audit={"age_s": 10**6, "differences": 9_999, "mended": 99_999}))
    assert "9999 slots differ, 99999 mended" in found
    assert max(map(len, found.splitlines())) <= 80
    assert "\naudit of the registry: not yet\n" in render(
        document(audit={"age_s": None, "differences": 0, "mended": 0})
    )


def test_the_end_of_a_certificate_and_the_last_reload_are_told_in_a_line_each() -> None:
    refused = {"error": f"limits.max_circuits = {'x' * 99}", "needs_restart": []}
    waiting = {"error": "", "needs_restart": ["identity.key_file", "admin.listen"]}
    certificate = {"listener": "/ip4/0.0.0.0/tcp/443/tls/ws", "days_left": 12.4}

    def shown(*outcomes: dict[str, Any]) -> list[str]:
        return render(
            document(refusals={}, certificates=[certificate], reload={"begun": 2, "outcomes": list(outcomes)})
        ).splitlines()

    assert shown()[-1] == "certificate of /ip4/0.0.0.0/tcp/443/tls/ws: 12 days left"
    assert shown(waiting, refused)[-1].startswith("the last reload changed nothing: limits.max_circuits = ")
    assert shown(refused, waiting)[-1] == "waits for a restart: identity.key_file, admin.listen"
    assert max(map(len, shown(refused))) <= 80


def test_who_is_kept_out_for_crashing_processes_is_named() -> None:
    denied = [{"peer": PEER, "crashes": 2, "left_s": 3599.0}, {"address": "192.0.2.1", "crashes": 2, "left_s": 61.0}]
    lines = render(document(denied=denied)).splitlines()
    assert f"denied 59m 59s for crashes: {PEER}" in lines
    assert "denied 1m 1s for crashes: 192.0.2.1" in lines
    assert max(map(len, lines)) <= 80
