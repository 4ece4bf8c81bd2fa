"""Main's half of a reload: what the configuration says now, and what of it can be had without a restart.

All or nothing: whatever is wrong leaves here as the ConfigError that it would have been at the start, and then nothing
has changed. Nothing here is pushed to a process; that is Rollout's (rollout.py). It must never open a socket, create a
file or change what is running.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
import psutil

from actors.tokens import Token, read_tokens
from config.settings import Listener, Settings
from supervisor import plan
from transports.address import announced_addresses

_FIXED: Final = (
    ("identity", "key_file"),
    ("admin", "listen"),
    ("admin", "token_file"),
    ("admin", "control_socket"),
    ("canary", "interval_s"),
)
"""Settings that are taken once, at the start."""
_FIXED_OF_LISTENER: Final = ("address", "workers", "proxy_protocol")
"""The same of a listener; its certificate may change."""


@dataclass(frozen=True, slots=True)
class Change:
    """What the tree is to live by from now on."""

    settings: Settings
    """The new ones, where `needs_restart` names none."""
    announced: tuple[str, ...]
    tokens: tuple[Token, ...] | None
    needs_restart: tuple[str, ...]
    """Keys whose new value waits for a restart, as operators write them."""


class Reader:
    """Reads the settings again from where they came at the start: `read` raises ConfigError."""

    def __init__(self, read: Callable[[], Settings], environ: Mapping[str, str], started: plan.Plan) -> None:
        self._read = read
        self._environ = environ
        self._started = started

    def read_again(self, running: Settings) -> Change:
        """Read and check as at the start, and keep of `running` what cannot change. Raises ConfigError."""
        wanted = self._read()
        plan.check(wanted, self._environ)
        settings, needs_restart = _kept(wanted, running)
        tokens = read_tokens(settings.access.tokens_file)
        return Change(settings, self.announced(settings), tokens, tuple(needs_restart))

    def announced(self, settings: Settings) -> tuple[str, ...]:
        """What is announced by these settings, with the addresses that the machine has now. Raises ConfigError."""
        started = self._started
        interfaces = psutil.net_if_addrs()
        return announced_addresses(settings.announce.addresses, started.bound, interfaces, started.host.peer_id)


def _kept(wanted: Settings, running: Settings) -> tuple[Settings, list[str]]:
    """The wanted settings with what runs in the place of what cannot change, and the names of that."""
    needs_restart = []
    for table, key in _FIXED:
        is_table, was_table = getattr(wanted, table), getattr(running, table)
        if getattr(is_table, key) != getattr(was_table, key):
            needs_restart.append(f"{table}.{key}")
            kept = msgspec.structs.replace(is_table, **{key: getattr(was_table, key)})
            wanted = msgspec.structs.replace(wanted, **{table: kept})
    listeners, changed = _kept_listeners(wanted.listeners, running.listeners)
    return msgspec.structs.replace(wanted, listeners=listeners), needs_restart + changed


def _kept_listeners(
    wanted: tuple[Listener, ...], running: tuple[Listener, ...]
) -> tuple[tuple[Listener, ...], list[str]]:
    """The listeners that run, with the certificates that are wanted for them."""
    if len(wanted) != len(running):
        return running, ["listeners"]
    kept, changed = [], []
    for index, (new, old) in enumerate(zip(wanted, running, strict=True)):
        fixed = [key for key in _FIXED_OF_LISTENER if getattr(new, key) != getattr(old, key)]
        changed += [f"listeners[{index}].{key}" for key in fixed]
        kept.append(old if fixed else new)
    return tuple(kept), changed
