"""What `frost-relay install` puts on a machine: the files of config/deploy, each where it belongs.

Writes files and says what became of each; starts, enables and reloads nothing. Must never overwrite what an operator
writes himself: the configuration, the nginx site, the jail. Units, filter and hook are ours: changes to a unit belong
into a drop-in, and an upgrade brings new ones.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from config.errors import ConfigError
from config.paths import DEFAULT_CONFIG_FILE

DEPLOY: Final = files("config") / "deploy"
PROGRAM: Final = "/opt/frost-relay/bin/frost-relay"
"""What the shipped unit starts."""
EXAMPLE_NAME: Final = "relay.example.org"
HIDDEN: Final = ("/home", "/root", "/run/user")
"""What ProtectHome= hides from the service."""

_PATH: Final = re.compile(r"/[A-Za-z0-9/._+-]+")
_NAME: Final = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")


@dataclass(frozen=True, slots=True)
class File:
    """One file: where it goes, and whether what is there already stays."""

    path: str
    text: str
    mode: int = 0o644
    theirs: bool = False
    """The operator's, once it is there."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one option of the command installs."""

    help: str
    sources: tuple[tuple[str, str], ...]
    """In config/deploy, and where it goes."""
    next_steps: tuple[str, ...]
    theirs: bool = False


PARTS: Final[Mapping[str, Part]] = {
    "systemd": Part(
        "The service, and a configuration if there is none.",
        (("frost-relay.service", "/etc/systemd/system/frost-relay.service"),),
        (
            "systemctl daemon-reload",
            "systemctl enable --now frost-relay.service",
            "systemctl status frost-relay.service",
        ),
    ),
    "socket": Part(
        "Port 443 opened by systemd.",
        (("frost-relay.socket", "/etc/systemd/system/frost-relay.socket"),),
        ("systemctl daemon-reload", "systemctl enable --now frost-relay.socket"),
    ),
    "tls": Part(
        "A drop-in for a relay that has its certificate itself.",
        (("frost-relay-tls.conf", "/etc/systemd/system/frost-relay.service.d/tls.conf"),),
        (
            "groupadd --system frost-relay-tls",
            "install -d -m 2750 -g frost-relay-tls /etc/frost-relay/tls",
            "systemctl daemon-reload",
        ),
    ),
    "nginx": Part(
        "A site for nginx; needs --name.",
        (("nginx.conf", "/etc/nginx/conf.d/frost-relay.conf"),),
        ("nginx -t", "systemctl reload nginx.service"),
        theirs=True,
    ),
    "certbot": Part(
        "A hook that has a renewed certificate taken up.",
        (("certbot-deploy-hook.sh", "/etc/letsencrypt/renewal-hooks/deploy/frost-relay"),),
        (),
    ),
    "fail2ban": Part(
        "A filter and a jail.",
        (
            ("fail2ban/filter.d/frost-relay.conf", "/etc/fail2ban/filter.d/frost-relay.conf"),
            ("fail2ban/jail.d/frost-relay.conf", "/etc/fail2ban/jail.d/frost-relay.conf"),
        ),
        ("systemctl reload fail2ban.service",),
    ),
}


def program() -> str:
    """The `frost-relay` of this Python, if the service can run it. Raises ConfigError."""
    path = os.path.join(os.path.dirname(sys.executable), "frost-relay")
    expected = f"to be run by the service, so outside {', '.join(HIDDEN)}, as python3 -m venv /opt/frost-relay makes it"
    for each in (path, os.path.realpath(sys.executable)):
        if any(each.startswith(f"{hidden}/") for hidden in HIDDEN):
            raise ConfigError("the program", each, expected)
    if not os.path.isfile(path):
        raise ConfigError("the program", path, "a file; install the package frost-relay into this Python")
    return path


def plan(parts: Sequence[str], name: str, config: str, program: str) -> list[File]:
    """The files of these parts. Raises ConfigError for a name or path that cannot stand in them."""
    for key, path in (("--config", config), ("the program", program)):
        if not _PATH.fullmatch(path):
            raise ConfigError(key, path, "an absolute path of letters, digits and / . _ + -")
    if "nginx" in parts and not _NAME.fullmatch(name):
        raise ConfigError("--name", name, f"the name that browsers dial, such as {EXAMPLE_NAME}")
    wanted = []
    for part in parts:
        for source, path in PARTS[part].sources:
            text = (DEPLOY / source).read_text("utf-8").replace(EXAMPLE_NAME, name or EXAMPLE_NAME)
            mode = 0o755 if source.endswith(".sh") else 0o644
            wanted.append(File(path, text, mode, PARTS[part].theirs or "/jail.d/" in path))
    if "systemd" in parts:
        unit = wanted[0].text
        for command in ("run", "reload"):
            named = command if config == DEFAULT_CONFIG_FILE else f"{command} --config {config}"
            unit = unit.replace(f"{PROGRAM} {command}\n", f"{program} {named}\n")
        wanted[0] = File(wanted[0].path, unit)
        default = (files("config") / "default.toml").read_text("utf-8")
        wanted.append(File(config, default, theirs=True))
    return wanted


def write(wanted: Iterable[File], root: str) -> list[str]:
    """Write what is missing or of another version, below `root`. Returns a line for each file. Raises ConfigError."""
    lines = []
    for file in wanted:
        path = os.path.join(root, file.path.lstrip("/"))
        try:
            lines.append(f"{_put(file, path)} {path}")
        except OSError as error:
            raise ConfigError("--root", path, f"a file that can be written ({error.strerror})") from error
    return lines


def _put(file: File, path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            there = stream.read()
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _replace(file, path)
        return "written  "
    if there == file.text:
        os.chmod(path, file.mode)
        return "unchanged"
    if file.theirs:
        return "kept     "
    _replace(file, path)
    return "replaced "


def _replace(file: File, path: str) -> None:
    """The whole file or none of it, whenever the machine stops."""
    descriptor, new = tempfile.mkstemp(prefix=".frost-relay-", dir=os.path.dirname(path))
    try:
        with open(descriptor, "w", encoding="utf-8") as stream:
            stream.write(file.text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(new, file.mode)
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise


def next_steps(parts: Sequence[str]) -> list[str]:
    """The commands that come now, each once."""
    return list(dict.fromkeys(step for part in parts for step in PARTS[part].next_steps))
