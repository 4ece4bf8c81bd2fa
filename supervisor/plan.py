"""What is to be served: settings checked by building what the workers will build, sockets opened, slots numbered.

`check` has no effect on the machine and is what `frost-relay config check` runs. `prepare` opens the sockets and
then, when nothing can go wrong with the configuration any more, reads or creates the identity key. `replan` does it
again while the relay runs, and opens what is new. Whatever the operator got wrong leaves here as a ConfigError;
nothing is forked here.
"""

from __future__ import annotations

import os
import pickle
import ssl
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from socket import socket
from typing import Final

import psutil

from actors.access import AccessRules
from actors.messages import Slot
from actors.tokens import read_tokens
from config.errors import ConfigError
from config.paths import default_control_socket, default_key_file
from config.settings import Admin, Canary, Listener, Settings
from supervisor import control_socket, descriptors
from supervisor.admin.gate import read_token
from supervisor.check.address import parse as parse_address
from supervisor.control_socket import ControlSocket
from supervisor.listening import Listening, Room, arrange, workers
from supervisor.socket_activation import PassedSockets, passed_sockets
from transports import sockets
from transports.address import ListenAddress, announced_addresses, parse_listen
from transports.certificate import Certificate
from transports.identity import HostKey
from transports.key_file import load_or_create_host_key

MAIN: Final = Slot(0, "main", "main")
SYSTEM: Final = Slot(1, "system", "system")
SUPERVISOR: Final = Slot(2, "supervisor", "supervisor")
REGISTRY: Final = Slot(3, "registry", "registry")
MAX_SETTINGS_BYTES: Final = 8 << 20
"""Every process is sent the settings, in messages of bounded size (seal.py): room for 100,000 peer IDs and more."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is served. Holds the listening sockets open: successors of killed workers inherit them."""

    host: HostKey
    listeners: tuple[Listening, ...]
    leaving: tuple[Slot, ...]
    """Workers that no listener has any more, and that may still serve those who are there."""
    announced: tuple[str, ...]
    """Without /p2p, wildcards resolved, best first."""
    others: tuple[Slot, ...]
    """The slots that are no listener's."""
    admin_socket: socket | None
    control: ControlSocket
    admin_listen: str
    """What the admin's socket was opened for."""
    admin_token: str = field(repr=False)

    @property
    def bound(self) -> tuple[ListenAddress, ...]:
        """The listeners' addresses, with the ports that were bound."""
        return tuple(each.where for each in self.listeners)

    @property
    def slots(self) -> tuple[Slot, ...]:
        """All processes, by their rows on the board."""
        served = (slot for each in self.listeners for slot in each.slots)
        return tuple(sorted((*self.others, *served, *self.leaving), key=lambda slot: slot.index))

    @property
    def sockets(self) -> tuple[socket, ...]:
        """Those that accept peers, and the admin's."""
        listening = tuple(each for listener in self.listeners for each in listener.sockets)
        return listening if self.admin_socket is None else (*listening, self.admin_socket)

    def without(self, gone: Callable[[Slot], bool]) -> Plan:
        """The same without those who have left."""
        return replace(self, leaving=tuple(slot for slot in self.leaving if not gone(slot)))

    def close_all_but(self, kept: Collection[socket]) -> None:
        """Close the sockets that are not among these."""
        sockets.close_all([each for each in self.sockets if each not in kept])

    def close(self) -> None:
        """Close all sockets; the control socket's file goes with it."""
        self.close_all_but(())
        self.control.close()


def key_path(settings: Settings, environ: Mapping[str, str]) -> str:
    """Where the identity key is, or will be created."""
    return settings.identity.key_file or default_key_file(environ)


def control_path(settings: Settings, environ: Mapping[str, str]) -> str:
    """Where the control socket is while the relay runs."""
    return settings.admin.control_socket or default_control_socket(environ)


def check(settings: Settings, environ: Mapping[str, str]) -> tuple[ListenAddress, ...]:
    """Build all that the workers will build from the settings. Raises ConfigError; creates and opens nothing.

    Returns the listeners' addresses as configured, so with port 0 where the kernel is to choose.
    """
    size_bytes = len(pickle.dumps(settings))
    if size_bytes > MAX_SETTINGS_BYTES:
        expected = f"lists that take up to {MAX_SETTINGS_BYTES} bytes together"
        raise ConfigError("access", f"lists of {size_bytes} bytes", expected)
    addresses = tuple(_check_listener(index, each) for index, each in enumerate(settings.listeners))
    AccessRules.from_settings(settings.access)
    read_tokens(settings.access.tokens_file)
    _check_canary(settings.canary)
    read_token(settings.admin.token_file)
    control_socket.check_path(control_path(settings, environ))
    path = key_path(settings, environ)
    host = load_or_create_host_key(path) if os.path.lexists(path) else HostKey.generate()
    announced_addresses(settings.announce.addresses, addresses, psutil.net_if_addrs(), host.peer_id)
    return addresses


def _check_canary(canary: Canary) -> None:
    if canary.address:
        parse_address(canary.address, "canary.address")
    if canary.ca_file:
        try:
            ssl.create_default_context(cafile=canary.ca_file)
        except OSError as error:  # ssl.SSLError is one
            expected = f"a PEM file with certificates ({error})"
            raise ConfigError("canary.ca_file", canary.ca_file, expected) from error


def _check_listener(index: int, listener: Listener) -> ListenAddress:
    key = f"listeners[{index}]"
    address = parse_listen(listener.address, f"{key}.address")
    if listener.cert_file and not address.tls:
        raise ConfigError(f"{key}.cert_file", listener.cert_file, f'"" for {listener.address}, which is not /tls/ws')
    if address.tls:
        Certificate(listener.cert_file, listener.key_file, key)
    return address


def prepare(settings: Settings, environ: Mapping[str, str]) -> Plan:
    """Check, open the listening sockets, one a worker, read or create the key. Raises ConfigError, leaving nothing.

    A listener whose sockets systemd has opened takes these.
    """
    addresses = check(settings, environ)
    wanted = list(zip(addresses, settings.listeners, strict=True))
    first, processes = REGISTRY.index + 1, sum(map(workers, settings.listeners))
    others = 1 + bool(settings.canary.interval_s)  # the admin process is always there
    descriptors.raise_limit(first + processes + others)
    passed = passed_sockets(environ)
    with ExitStack() as undo:
        undo.callback(passed.close)
        made = arrange(wanted, (), passed, Room(list(range(first, first + processes))))
        undo.callback(sockets.close_all, made.opened)
        passed.check_all_taken()
        admin_socket = _open_admin(settings.admin)
        if admin_socket is not None:
            undo.enter_context(admin_socket)
        control = undo.enter_context(closing(ControlSocket(control_path(settings, environ))))
        admin = Slot(first + processes, "admin", "admin", socket_fd=_fd(admin_socket), control_fd=control.fileno())
        slots = [MAIN, SYSTEM, SUPERVISOR, REGISTRY, admin]
        if settings.canary.interval_s:
            slots.append(Slot(admin.index + 1, "canary", "canary"))
        host = load_or_create_host_key(key_path(settings, environ))
        bound = [each.where for each in made.listeners]
        announced = announced_addresses(settings.announce.addresses, bound, psutil.net_if_addrs(), host.peer_id)
        token = read_token(settings.admin.token_file)
        undo.pop_all()
    served, listen = tuple(made.listeners), settings.admin.listen
    return Plan(host, served, (), announced, tuple(slots), admin_socket, control, listen, token)


def replan(settings: Settings, running: Plan, rows: int, gone: Callable[[Slot], bool]) -> Plan:
    """What is to be served from now on, by settings that were checked. Raises ConfigError, and nothing has changed.

    `rows` are those of the board; `gone` says of a worker that was leaving whether it has ended. What `running` has
    open stays open.
    """
    before = running.without(gone)
    taken = {slot.index for slot in before.slots}
    room = Room([row for row in range(rows) if row not in taken], {slot.name for slot in before.slots})
    wanted = [(parse_listen(each.address, "listeners"), each) for each in settings.listeners]
    token = read_token(settings.admin.token_file)
    with ExitStack() as undo:
        made = arrange(wanted, before.listeners, PassedSockets([]), room)
        undo.callback(sockets.close_all, made.opened)
        descriptors.raise_limit(len(taken.union(slot.index for each in made.listeners for slot in each.slots)))
        admin_socket, others = before.admin_socket, before.others
        if settings.admin.listen != before.admin_listen:
            admin_socket = _open_admin(settings.admin)
            if admin_socket is not None:
                undo.enter_context(admin_socket)
            others = tuple(_at(each, admin_socket) if each.role == "admin" else each for each in others)
        bound = [each.where for each in made.listeners]
        peer_id = before.host.peer_id
        announced = announced_addresses(settings.announce.addresses, bound, psutil.net_if_addrs(), peer_id)
        undo.pop_all()
    return replace(
        before,
        listeners=tuple(made.listeners),
        leaving=(*before.leaving, *made.leaving),
        announced=announced,
        others=others,
        admin_socket=admin_socket,
        admin_listen=settings.admin.listen,
        admin_token=token,
    )


def _open_admin(admin: Admin) -> socket | None:
    return sockets.open_private(*admin.address, "admin.listen", admin.listen) if admin.address is not None else None


def _at(slot: Slot, listening: socket | None) -> Slot:
    return replace(slot, socket_fd=_fd(listening))


def _fd(listening: socket | None) -> int:
    return -1 if listening is None else listening.fileno()
