"""Where files live when nobody says so: the configuration file, the identity key and the control socket.

Creates the state directory of a root-owned relay, since only that tells whether it can be used; touches no other file.
"""

import os
from collections.abc import Mapping
from typing import Final

DEFAULT_CONFIG_FILE: Final = "/etc/frost-relay/relay.toml"
SYSTEM_STATE_DIRECTORY: Final = "/var/lib/frost-relay"
SYSTEM_RUNTIME_DIRECTORY: Final = "/run/frost-relay"
CONFIG_VARIABLE: Final = "FROST_RELAY_CONFIG"
KEY_NAME: Final = "identity.key"
CONTROL_NAME: Final = "control.sock"


def config_file(
    file: str | None, environ: Mapping[str, str], default: str = DEFAULT_CONFIG_FILE
) -> tuple[str, str] | None:
    """The file to read and what named it: `--config`, else $FROST_RELAY_CONFIG, else the default file if it exists."""
    if file is not None:
        return file, "--config"
    if named := environ.get(CONFIG_VARIABLE):
        return named, CONFIG_VARIABLE
    return (default, default) if os.path.exists(default) else None


def default_key_file(
    environ: Mapping[str, str], *, is_root: bool | None = None, system: str = SYSTEM_STATE_DIRECTORY
) -> str:
    """The identity key's path when `identity.key_file` is empty.

    In the directory that systemd made for the service ($STATE_DIRECTORY, the first of several), else for root in
    /var/lib/frost-relay when it is there and writable or can be made (0700), else in the user's state directory (XDG
    base directory specification: a relative $XDG_STATE_HOME is ignored).
    """
    if directory := environ.get("STATE_DIRECTORY", "").split(":")[0]:
        return os.path.join(directory, KEY_NAME)
    if (os.geteuid() == 0 if is_root is None else is_root) and _usable(system):
        return os.path.join(system, KEY_NAME)
    return os.path.join(_user_state_directory(environ), KEY_NAME)


def default_control_socket(environ: Mapping[str, str], *, is_root: bool | None = None) -> str:
    """The control socket's path when `admin.control_socket` is empty: the same for each start, so that it is found.

    In the directory that systemd made for the service ($RUNTIME_DIRECTORY, the first of several), else for root in
    /run/frost-relay, else in the user's runtime directory, or without one in the user's state directory (XDG base
    directory specification: a relative $XDG_RUNTIME_DIR is ignored). Touches nothing.
    """
    if directory := environ.get("RUNTIME_DIRECTORY", "").split(":")[0]:
        return os.path.join(directory, CONTROL_NAME)
    if os.geteuid() == 0 if is_root is None else is_root:
        return os.path.join(SYSTEM_RUNTIME_DIRECTORY, CONTROL_NAME)
    if os.path.isabs(runtime := environ.get("XDG_RUNTIME_DIR", "")):
        return os.path.join(runtime, "frost-relay", CONTROL_NAME)
    return os.path.join(_user_state_directory(environ), CONTROL_NAME)


def control_socket_places(environ: Mapping[str, str], *, is_root: bool | None = None) -> tuple[str, ...]:
    """Where a command looks for a running relay: the caller's own, then the service's. Touches nothing."""
    service = os.path.join(SYSTEM_RUNTIME_DIRECTORY, CONTROL_NAME)
    return tuple(dict.fromkeys((default_control_socket(environ, is_root=is_root), service)))


def _user_state_directory(environ: Mapping[str, str]) -> str:
    state = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):
        home = environ.get("HOME") or os.path.expanduser("~")
        state = os.path.join(home, ".local", "state")
    return os.path.join(state, "frost-relay")


def _usable(directory: str) -> bool:
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except OSError:
        return False
    return os.access(directory, os.W_OK | os.X_OK)
