"""What is to be started: settings checked by building what the workers will build, sockets opened, slots numbered.

`check` has no effect on the machine and is what `frost-relay config check` runs. `prepare` opens the sockets and
then, when nothing can go wrong with the configuration any more, reads or creates the identity key. Whatever the
operator got wrong leaves here as a ConfigError; nothing is forked here.
"""

from __future__ import annotations

import os
import pickle
import ssl
from collections.abc import Mapping
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
from config.settings import Canary, Listener, Settings
from supervisor import control_socket, descriptors
from supervisor.admin.gate import read_token
from supervisor.check.address import parse as parse_address
from supervisor.control_socket import ControlSocket
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
    """Everything main needs to start the tree. Holds the listening sockets open for as long as the relay runs."""

    host: HostKey
    bound: tuple[ListenAddress, ...]
    """The listeners' addresses, with the ports that were bound."""
    announced: tuple[str, ...]
    """Without /p2p, wildcards resolved, best first."""
    slots: tuple[Slot, ...]
    """All processes, by their row on the board."""
    sockets: tuple[socket, ...]
    control: ControlSocket
    admin_token: str = field(repr=False)

    def close(self) -> None:
        """Close all sockets; the control socket's file goes with it."""
        sockets.close_all(self.sockets)
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
        if listener.proxy_protocol:
            expected = "false on a /tls/ws address; let the proxy do TLS and listen on /ws behind it"
            raise ConfigError(f"{key}.proxy_protocol", True, expected)
        Certificate(listener.cert_file, listener.key_file, key)
    return address


def prepare(settings: Settings, environ: Mapping[str, str]) -> Plan:
    """Check, open the listening sockets, one a worker, read or create the key. Raises ConfigError, leaving nothing.

    A listener whose sockets systemd has opened takes these.
    """
    addresses = check(settings, environ)
    slots = [MAIN, SYSTEM, SUPERVISOR, REGISTRY]
    others = 1 + bool(settings.canary.interval_s)  # the admin process is always there
    descriptors.raise_limit(len(slots) + sum(map(workers, settings.listeners)) + others)
    passed = passed_sockets(environ)
    opened: list[socket] = []
    bound: list[ListenAddress] = []
    with ExitStack() as undo:
        undo.callback(passed.close)
        undo.callback(sockets.close_all, opened)
        for index, (address, listener) in enumerate(zip(addresses, settings.listeners, strict=True)):
            where, listening, is_passed = _open(address, workers(listener), f"listeners[{index}]", passed)
            opened += listening
            bound.append(where)
            made = _listener_slots(len(slots), index, where, workers(listener), listening)
            slots += [replace(slot, is_passed=is_passed) for slot in made]
        passed.check_all_taken()
        admin_fd = -1
        if settings.admin.address is not None:
            opened.append(sockets.open_private(*settings.admin.address, "admin.listen", settings.admin.listen))
            admin_fd = opened[-1].fileno()
        control = undo.enter_context(closing(ControlSocket(control_path(settings, environ))))
        slots.append(Slot(len(slots), "admin", "admin", socket_fd=admin_fd, control_fd=control.fileno()))
        if settings.canary.interval_s:
            slots.append(Slot(len(slots), "canary", "canary"))
        host = load_or_create_host_key(key_path(settings, environ))
        announced = announced_addresses(settings.announce.addresses, bound, psutil.net_if_addrs(), host.peer_id)
        token = read_token(settings.admin.token_file)
        undo.pop_all()
    return Plan(host, tuple(bound), announced, _distinct(slots), tuple(opened), control, token)


def _open(
    address: ListenAddress, count: int, key: str, passed: PassedSockets
) -> tuple[ListenAddress, list[socket], bool]:
    """The sockets of one listener, and whether they were passed for it; else each worker has one of our own."""
    taken = passed.take(address)
    if len(taken) > count:
        sockets.close_all(taken)
        raise ConfigError(f"{key}.workers", count, f"at least {len(taken)}: that many sockets were passed for it")
    if taken:
        return address, taken, True
    return *sockets.open_listeners(address, count, f"{key}.address"), False


def workers(listener: Listener) -> int:
    """How many processes serve a listener; 0 in the settings is one a core that we may run on."""
    return listener.workers or len(os.sched_getaffinity(0))


def _listener_slots(
    first_row: int, index: int, where: ListenAddress, count: int, listening: list[socket]
) -> list[Slot]:
    """One slot a worker. Workers share sockets that were passed, since SO_REUSEPORT cannot be added to them."""
    kind = "wss" if where.tls else "ws" if where.websocket else "tcp"
    return [
        Slot(
            first_row + number,
            f"{kind}-{where.port}/{number}",
            "listener",
            listener=where.multiaddr,
            socket_fd=listening[number % len(listening)].fileno(),
            listener_index=index,
        )
        for number in range(count)
    ]


def _distinct(slots: list[Slot]) -> tuple[Slot, ...]:
    """Two listeners may share kind and port on different hosts; a slot's name is its identity, so tell them apart."""
    seen: dict[str, int] = {}
    result = []
    for slot in slots:
        taken_by = seen.setdefault(slot.name, slot.listener_index)
        name = slot.name if taken_by == slot.listener_index else f"{slot.name}@{slot.listener_index}"
        result.append(replace(slot, name=name))
    return tuple(result)
