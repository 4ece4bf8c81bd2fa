"""Rules between settings: values that are each in range and still contradict one another.

What only a socket, a file or a parser of addresses can tell is not decided here.
"""

import ipaddress
from collections.abc import Mapping
from typing import Any, Final

from config.errors import MISSING, ConfigError
from config.settings import Admin, Canary, Limits, Listener, Settings

# A part above its whole can never be reached. 0 is off where it can be switched off.
_SHARES: Final = (
    ("max_circuits_per_peer", "max_circuits"),
    ("max_reservations_per_ip", "max_reservations"),
    ("max_connections_per_ip", "max_connections"),
    ("max_pending_handshakes", "max_connections"),
    ("max_reservations", "max_connections"),  # each is held on a connection
)

LEAST_MEMORY_MB: Final = 128


def check(settings: Settings, given: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for the first contradiction. `given` holds what was set, without defaults.

    A default share above a total that was set is no contradiction: nobody asked for it, and the total holds anyway.
    """
    _check_shares(settings, given.get("limits", {}))
    _check_memory(settings.limits)
    _check_admin(settings.admin)
    _check_canary(settings.canary, settings.limits)
    for index, listener in enumerate(settings.listeners):
        _check_certificate(f"listeners[{index}]", listener)
        if listener.proxy_protocol and not settings.access.trusted_proxies:
            expected = "false as long as access.trusted_proxies names nobody: every connection would be refused"
            raise ConfigError(f"listeners[{index}].proxy_protocol", True, expected)
    _check_duplicates(settings.listeners)


def _check_shares(settings: Settings, given: Mapping[str, Any]) -> None:
    for share, total in _SHARES:
        most = getattr(settings.limits, total)
        if share in given and given[share] > most:
            raise ConfigError(f"limits.{share}", given[share], f"at most limits.{total}, which is {most}")


def _check_memory(limits: Limits) -> None:
    if 0 < limits.max_memory_mb < LEAST_MEMORY_MB:
        expected = (
            f"0 for three quarters of what there is, or at least {LEAST_MEMORY_MB}: the relay itself takes some 100"
        )
        raise ConfigError("limits.max_memory_mb", limits.max_memory_mb, expected)


def _check_canary(canary: Canary, limits: Limits) -> None:
    """Each check takes one reservation and one circuit, and comes from one address."""
    if not canary.interval_s:
        return
    if canary.interval_s < 1:
        raise ConfigError("canary.interval_s", canary.interval_s, "0 for off, or at least 1")
    for key in ("reservation_rate_per_ip", "circuit_rate_per_ip"):
        rate = getattr(limits, key)
        if rate is not None and canary.interval_s < rate.period_s / rate.count:
            least = f"at least {rate.period_s / rate.count:g}, because limits.{key} is {rate}"
            raise ConfigError("canary.interval_s", canary.interval_s, least)


def _check_admin(admin: Admin) -> None:
    if admin.address is not None:
        host, port = admin.address
        if port > 65_535:
            raise ConfigError("admin.listen", admin.listen, "a port from 0 to 65535")
        if not admin.token_file and not is_loopback(host):
            raise ConfigError("admin.listen", admin.listen, "a loopback address, or admin.token_file to protect it")
    if admin.control_socket and not admin.control_socket.startswith("/"):
        expected = 'a whole path such as "/run/frost-relay/control.sock": commands look for it from elsewhere'
        raise ConfigError("admin.control_socket", admin.control_socket, expected)


def is_loopback(host: str) -> bool:
    """Whether what listens on `host` (an IP address or a name) is for this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_certificate(key: str, listener: Listener) -> None:
    if listener.cert_file and not listener.key_file:
        raise ConfigError(f"{key}.key_file", MISSING, f"the private key that belongs to {key}.cert_file")
    if listener.key_file and not listener.cert_file:
        raise ConfigError(f"{key}.cert_file", MISSING, f"the certificate that belongs to {key}.key_file")


def _check_duplicates(listeners: tuple[Listener, ...]) -> None:
    first: dict[str, int] = {}
    for index, listener in enumerate(listeners):
        address = listener.address.rstrip("/")
        if "/tcp/0/" in address + "/":
            continue  # the kernel chooses another port for each
        if address in first:
            expected = f"an address that listeners[{first[address]}] does not have"
            raise ConfigError(f"listeners[{index}].address", listener.address, expected)
        first[address] = index
