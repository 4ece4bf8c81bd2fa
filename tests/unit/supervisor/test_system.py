from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor import system

ROOT = Path(__file__).parents[3]


def run(program: str) -> str:
    """What a Python program prints; a process of its own, because the change to Thespian cannot be undone."""
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout


def test_another_version_of_thespian_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "4.1.0")
    with pytest.raises(system.SystemStartError, match=r"thespian 4\.1\.0 is installed.*install thespian==4\.0\.1"):
        system.harden("/nowhere")


def test_importing_it_asks_no_name_service() -> None:
    program = """
import socket
def refuse(*a, **k):
    raise SystemExit(f"asked for {a}")
real = socket.getaddrinfo
socket.gethostbyaddr = socket.gethostbyname = refuse
socket.getaddrinfo = lambda host, *a, **k: real(host, *a, **k) if host in (None, "localhost") else refuse(host)
import supervisor.system
print("fine")
"""
    assert run(program) == "fine\n"


def test_everything_that_is_replaced_is_there_to_be_replaced() -> None:
    """A name that Thespian does not have would be set without effect."""
    program = """
import supervisor.thespian_parts as parts
names = {
    parts.tcp: ["serializer", "ReceiveBuffer", "ackMsg", "ackDataErrMsg", "socket", "TCPv4ActorAddress",
                "LISTEN_DEPTH", "selectors"],
    parts.common: ["ThespianLogForwarder", "MultiProcManager", "startChild", "MAX_ADMIN_STARTUP_DELAY"],
    parts.async_transport: ["MAX_PENDING_TRANSMITS"],
    parts.transports: ["DEFAULT_MAX_TRANSMIT_PERIOD"],
    parts.system_base: ["MAX_CHILD_ACTOR_CREATE_DELAY"],
}
before = {(module.__name__, name): getattr(module, name) for module in names for name in names[module]}
from supervisor import system
assert hasattr(parts.system_base, "MAX_TELL_PERIOD")
system.harden("/nowhere")
kept = [key for key, value in before.items()
        if getattr(next(m for m in names if m.__name__ == key[0]), key[1]) is value]
print(kept)
"""
    assert run(program) == "[]\n"
