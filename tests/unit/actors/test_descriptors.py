"""How many descriptors are whose."""

from __future__ import annotations

import resource

from actors.descriptors import own, room


def test_what_is_not_the_worker_s_own_is_for_connections() -> None:
    assert room(7, own(7) + 100) == 100
    assert room(7, own(7)) == 0
    assert room(7, 20) == 0


def test_a_tree_of_many_processes_needs_more_for_itself() -> None:
    assert own(21) > own(7) > 45


def test_the_limit_is_that_of_the_process() -> None:
    assert room(7) == resource.getrlimit(resource.RLIMIT_NOFILE)[0] - own(7)
