"""The limit of open files: what is asked for at the start, and what is said of it."""

from __future__ import annotations

import resource
from collections.abc import Callable

import pytest

from actors.descriptors import own
from actors.messages import Slot
from config.errors import ConfigError
from supervisor.descriptors import ENOUGH, MIN_CONNECTIONS, raise_limit, shortage

SLOTS = [Slot(0, "main", "main"), Slot(1, "ws-1/0", "listener", listener_index=0),
         Slot(2, "ws-1/1", "listener", listener_index=0), Slot(3, "tcp-2/0", "listener", listener_index=1)]  # fmt: skip

Limits = Callable[[int, int], list[tuple[int, int]]]


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Limits:
    """Give the process these limits; what is asked for comes into the list."""
    asked: list[tuple[int, int]] = []

    def give(soft: int, hard: int) -> list[tuple[int, int]]:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
        monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
        return asked

    return give


@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [
        (1024, 4096, 4096),
        (1024, resource.RLIM_INFINITY, ENOUGH),
        (1024, ENOUGH * 4, ENOUGH),
    ],
)
def test_the_soft_limit_becomes_what_the_machine_allows(limits: Limits, soft: int, hard: int, raised: int) -> None:
    asked = limits(soft, hard)
    assert raise_limit(7) == raised
    assert asked == [(raised, hard)]


@pytest.mark.parametrize(
    ("soft", "hard"), [(4096, 4096), (ENOUGH * 4, ENOUGH * 4), (ENOUGH * 4, resource.RLIM_INFINITY)]
)
def test_a_limit_is_never_lowered(limits: Limits, soft: int, hard: int) -> None:
    asked = limits(soft, hard)
    assert raise_limit(7) == soft
    assert asked == []


def test_too_few_are_said_with_what_would_be_enough(limits: Limits) -> None:
    needed = own(7) + MIN_CONNECTIONS
    limits(needed, needed)
    assert raise_limit(7) == needed
    limits(20, needed - 1)
    with pytest.raises(ConfigError, match=f"^ulimit -n = {needed - 1}: expected at least {needed} open files"):
        raise_limit(7)


def test_more_connections_than_descriptors_are_told(limits: Limits) -> None:
    limits(1000 + own(4), 4096)
    assert shortage(1000, SLOTS) == "", "the TCP listener has one process, and that has as many"
    assert shortage(1001, SLOTS) == (
        f"limits.max_connections = 1001: a process may open {1000 + own(4)} files (ulimit -n, LimitNOFILE= in the "
        "unit), so one listener takes 1000 connections at most"
    )
    assert shortage(2000, SLOTS[:3]) == "", "two processes serve WebSocket"
