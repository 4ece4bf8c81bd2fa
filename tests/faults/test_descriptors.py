"""Relays that may open few files: said at the start; at run time newcomers are refused, and nobody else notices."""

from __future__ import annotations

import asyncio
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from actors.descriptors import own
from tests.support.builds import ROOT
from tests.support.client import Client, ClientStream
from tests.support.relay import RelayProcess

pytestmark = pytest.mark.fault

WS = ("/ip4/127.0.0.1/tcp/0/ws",)
SLOTS = 6  # main, system, supervisor, registry, one listener, admin
ROOM = 70


def allowed(files: int, soft: int | None = None) -> tuple[str, ...]:
    """A command that runs another one with these limits."""
    return ("prlimit", f"--nofile={soft or files}:{files}", "--")


def test_a_relay_that_may_open_too_few_files_does_not_start(tmp_path: Path) -> None:
    line = [*allowed(40), sys.executable, "-m", "supervisor.cli", "run", "--set", f"identity.key_file={tmp_path}/key"]
    line += ["--set", 'listeners=[{address="/ip4/127.0.0.1/tcp/0", workers=1}]']
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"frost-relay: ulimit -n = 40: expected at least {own(SLOTS) + 64} open files a process, for 6 of them "
        "(LimitNOFILE= in the unit)\n"
    )
    assert not (tmp_path / "key").exists()


def test_the_soft_limit_is_raised_and_what_is_still_too_little_is_said() -> None:
    with RelayProcess(listeners=WS, prefix=allowed(1024, soft=256)) as relay:
        for pid in relay.pids().values():
            assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (1024, 1024)
        assert "main: limits.max_connections = 20000: a process may open 1024 files (ulimit -n" in relay.stderr
    with RelayProcess("limits.max_connections=100", listeners=WS, prefix=allowed(1024)) as relay:
        assert "a process may open" not in relay.stderr


async def called(address: str) -> tuple[ClientStream, ClientStream, Callable[[], Coroutine[Any, Any, None]]]:
    """Two peers with a circuit, and how they leave."""
    target, source = await Client.dial(address), await Client.dial(address)
    await target.reserve()
    left = await source.connect(target.peer_id)
    _, right = await target.called()

    async def leave() -> None:
        await source.abort()
        await target.abort()

    return left, right, leave


async def echoed(left: ClientStream, right: ClientStream) -> None:
    for number in range(20):
        words = b"numbered and never lost " + str(number).encode()
        left.write(words)
        assert await right.read(len(words)) == words
        right.write(words)
        assert await left.read(len(words)) == words


def knock(relay: RelayProcess) -> socket.socket:
    """A connection that says nothing."""
    port = int(relay.addresses[0].split("/")[4])
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def refused(relay: RelayProcess) -> None:
    """A newcomer is not let in, and does not have to wait for that."""
    with knock(relay) as newcomer, suppress(ConnectionResetError):
        assert newcomer.recv(1) == b""


def test_a_worker_without_descriptors_refuses_newcomers_and_serves_who_is_here() -> None:
    settings = ("limits.handshake_timeout_s=120", f"limits.max_connections={2 * ROOM}")
    with RelayProcess(*settings, listeners=WS, prefix=allowed(own(SLOTS) + ROOM)) as relay:

        async def play() -> None:
            address = relay.address("ws")
            left, right, leave = await called(address)
            with ExitStack() as crowd:
                for _ in range(ROOM - 2):
                    crowd.enter_context(knock(relay))
                relay.wait_status(lambda now: now["connections"] == ROOM)
                for _ in range(3):
                    refused(relay)
                relay.wait_status(lambda now: now["refusals"]["descriptors_short"] == 3)
                assert "refused asked=connection reason=descriptors_short" in relay.stderr
                relay.kill("registry")
                relay.wait_status(lambda now: now["connections"] == ROOM)
                await echoed(left, right)
            relay.wait_status(lambda now: now["connections"] == 2)
            newcomer = await Client.dial(address)
            await newcomer.reserve()  # the registry's successor was reached with the descriptors that were left alone
            await echoed(left, right)
            await newcomer.abort()
            await leave()

        asyncio.run(play())
        assert relay.workers("listener")[0]["restarts"] == 0
    assert "Traceback" not in relay.stderr


def test_what_the_kernel_refuses_is_closed_at_once_and_comes_in_when_there_are_descriptors_again() -> None:
    with RelayProcess(listeners=WS) as relay:

        async def play() -> None:
            left, right, leave = await called(relay.address("ws"))
            pid = relay.workers("listener")[0]["pid"]
            before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (psutil.Process(pid).num_fds(), before[1]))
            for _ in range(20):
                refused(relay)
            await echoed(left, right)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
            newcomer = await Client.dial(relay.address("ws"))
            await newcomer.reserve()
            await newcomer.abort()
            await leave()

        asyncio.run(play())
        assert relay.workers("listener")[0]["restarts"] == 0
