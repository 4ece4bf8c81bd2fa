"""Main's half of a reload: what the configuration says now, and what of it can be had without a restart.

All or nothing: whatever is wrong leaves here as the ConfigError that it would have been at the start, and then nothing
has changed but for sockets that were opened and are closed again. Nothing here is pushed to a process; that is
Rollout's (rollout.py). It must never change what is running.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
import psutil

from actors.board import Board, State
from actors.messages import Slot
from actors.tokens import Token, read_tokens
from config.errors import ConfigError
from config.settings import Admin, Settings
from supervisor import counter_files, plan
from supervisor.plan import Plan
from transports.address import announced_addresses, parse_listen

_FIXED: Final = (
    ("identity", "key_file"),
    ("admin", "control_socket"),
    ("canary", "interval_s"),
)
"""Settings that are taken once, at the start."""


@dataclass(frozen=True, slots=True)
class Change:
    """What the tree is to live by from now on."""

    settings: Settings
    """The new ones, where `needs_restart` names none."""
    plan: Plan
    """What is served then; the sockets that are new in it are open."""
    tokens: tuple[Token, ...] | None
    needs_restart: tuple[str, ...]
    """Keys whose new value waits for a restart, as operators write them."""


class Reader:
    """Reads the settings again from where they came at the start: `read` raises ConfigError."""

    def __init__(
        self, read: Callable[[], Settings], environ: Mapping[str, str], board: Board, runtime_dir: str
    ) -> None:
        self._runtime_dir = runtime_dir
        self._read = read
        self._environ = environ
        self._board = board

    def read_again(self, running: Settings, served: Plan) -> Change:
        """Read and check as at the start, and keep of `running` what cannot change. Raises ConfigError."""
        wanted = self._read()
        plan.check(wanted, self._environ)
        settings, needs_restart = _kept(wanted, running, served)
        tokens = read_tokens(settings.access.tokens_file)
        replanned = plan.replan(settings, served, self._board.rows, self.has_left)
        try:
            counter_files.add(self._runtime_dir, [slot.index for slot in replanned.slots])
        except ConfigError:
            replanned.close_all_but(served.sockets)
            raise
        return Change(settings, replanned, tokens, tuple(needs_restart))

    def has_left(self, slot: Slot) -> bool:
        """Whether the process of a slot that was leaving has ended."""
        return self._board.row(slot.index).state is State.STOPPED


def announced(settings: Settings, served: Plan) -> tuple[str, ...]:
    """What is announced by these settings, with the addresses that the machine has now. Raises ConfigError."""
    interfaces = psutil.net_if_addrs()
    return announced_addresses(settings.announce.addresses, served.bound, interfaces, served.host.peer_id)


def _kept(wanted: Settings, running: Settings, served: Plan) -> tuple[Settings, list[str]]:
    """The wanted settings with what runs in the place of what cannot change, and the names of that."""
    needs_restart = []
    fixed = [*_FIXED, ("admin", "listen")] if _same_port(wanted.admin, running.admin) else _FIXED
    for table, key in fixed:
        is_table, was_table = getattr(wanted, table), getattr(running, table)
        if getattr(is_table, key) != getattr(was_table, key):
            needs_restart.append(f"{table}.{key}")
            kept = msgspec.structs.replace(is_table, **{key: getattr(was_table, key)})
            wanted = msgspec.structs.replace(wanted, **{table: kept})
    return _with_passed(wanted, running, served, needs_restart), needs_restart


def _same_port(wanted: Admin, running: Admin) -> bool:
    """Whether the admin's new socket would be in the way of its old one, which is open until there is the new one."""
    ports = [admin.address and admin.address[1] for admin in (wanted, running)]
    return bool(ports[0]) and ports[0] == ports[1]


def _with_passed(wanted: Settings, running: Settings, served: Plan, needs_restart: list[str]) -> Settings:
    """A listener whose sockets systemd holds open stays: its clients would connect still, and wait for nobody."""
    there = {parse_listen(each.address, "listeners").multiaddr for each in wanted.listeners}
    for known, listener in zip(served.listeners, running.listeners, strict=True):
        if known.is_passed and known.configured.multiaddr not in there:
            needs_restart.append(f"listeners {listener.address}")
            wanted = msgspec.structs.replace(wanted, listeners=(*wanted.listeners, listener))
    return wanted
