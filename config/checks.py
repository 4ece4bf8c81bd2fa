"""Rules between settings: values that are each in range and still contradict one another.

What only a socket, a file or a parser of addresses can tell is not decided here.
"""

from collections.abc import Mapping
from typing import Any, Final

from config.errors import MISSING, ConfigError
from config.settings import Listener, Settings

# A share of one peer or one IP above the total can never be reached. 0 is off where a share can be switched off.
_SHARES: Final = (
    ("max_circuits_per_peer", "max_circuits"),
    ("max_reservations_per_ip", "max_reservations"),
    ("max_connections_per_ip", "max_connections"),
)


def check(settings: Settings, given: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for the first contradiction. `given` holds what was set, without defaults.

    A default share above a total that was set is no contradiction: nobody asked for it, and the total holds anyway.
    """
    _check_shares(settings, given.get("limits", {}))
    if (admin := settings.admin.address) and admin[1] > 65_535:
        raise ConfigError("admin.listen", settings.admin.listen, "a port from 0 to 65535")
    for index, listener in enumerate(settings.listeners):
        _check_certificate(f"listeners[{index}]", listener)
    _check_duplicates(settings.listeners)


def _check_shares(settings: Settings, given: Mapping[str, Any]) -> None:
    for share, total in _SHARES:
        most = getattr(settings.limits, total)
        if share in given and given[share] > most:
            raise ConfigError(f"limits.{share}", given[share], f"at most limits.{total}, which is {most}")


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
