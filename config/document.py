"""Writes docs/settings.md: `python -m config.document > docs/settings.md`, which `make docs-settings` does.

Everything in it is taken from where it is decided: names, defaults and ranges from the typed tables, what a setting is
for and when to change it from the comments in default.toml. A test keeps the document equal to what this writes.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from config.explain import expected_at
from config.load import to_tables
from config.settings import Listener, Settings

DEFAULT_FILE: Final = Path(__file__).with_name("default.toml")

_INTRODUCTION: Final = """\
# Settings

Written by `make docs-settings` from `config/settings.py` and `config/default.toml`; do not change it by hand.

Settings come from a TOML file (`--config FILE`, else `$FROST_RELAY_CONFIG`, else `/etc/frost-relay/relay.toml`), over
it the environment (`FROST_RELAY__LIMITS__MAX_RESERVATIONS=10`), over both `--set limits.max_reservations=10`. A value
in a list is set by its place: `--set listeners.0.workers=2`, `FROST_RELAY__LISTENERS__0__WORKERS=2`. `frost-relay
config show` says what is in force and what set it, `frost-relay config check FILE` whether a file would start. In
names, `ip` is one IPv4 address or one IPv6 subnet (`limits.ipv6_prefix`).
"""


@dataclass(slots=True)
class _Group:
    """Keys that one comment stands over."""

    keys: list[str]
    text: str


@dataclass(slots=True)
class _Table:
    """A table of default.toml: what stands over it, and its groups."""

    text: str = ""
    groups: list[_Group] = field(default_factory=list)


def document() -> str:
    """The whole of docs/settings.md."""
    texts = _read(DEFAULT_FILE.read_text("utf-8"))
    parts = [_INTRODUCTION]
    for name, defaults in to_tables(Settings()).items():
        if isinstance(defaults, list):
            parts.append(_listeners(name, defaults, texts[name]))
        else:
            parts.append("\n".join([f"## [{name}]", "", *_section((name,), defaults, texts[name])]))
    return "\n".join(parts)


def _section(path: tuple[str | int, ...], defaults: dict[str, Any], table: _Table) -> Iterator[str]:
    if table.text:
        yield from (table.text, "")
    yield from ("| key | default | unit | what it may be |", "|---|---|---|---|")
    for key, default in defaults.items():
        shown = "(has to be there)" if default is None else f"`{json.dumps(default, ensure_ascii=False)}`"
        yield f"| `{key}` | {shown} | {_unit(key)} | {expected_at([*path, key])} |"
    yield ""
    for group in table.groups:
        yield from (f"**{', '.join(f'`{key}`' for key in group.keys)}**: {group.text}", "")


def _unit(key: str) -> str:
    """Units are in the names."""
    if "_rate_" in key:
        return "times a period"
    return "seconds" if key.endswith("_s") else "bytes" if key.endswith("_bytes") else "–"


def _listeners(name: str, defaults: list[dict[str, Any]], table: _Table) -> str:
    """A list of tables: the keys of one, and what the list is when nobody sets it."""
    one = {each.name: None if each.required else each.default for each in msgspec.structs.fields(Listener)}
    lines = [f"## [[{name}]]", "", *_section((name, 0), one, _Table(table.text))]
    addresses = " and ".join(f"`{each['address']}` (`workers = {each['workers']}`)" for each in defaults)
    return "\n".join([*lines, f"Without any such table there are {addresses}.", ""])


def _read(text: str) -> dict[str, _Table]:
    """What the comments of default.toml say: each is for the keys below it, or for the table below it."""
    tables: dict[str, _Table] = {}
    table, comment, fresh = _Table(), "", False
    for line in text.splitlines():
        if line.startswith("# "):
            comment = f"{comment} {line[2:]}" if fresh else line[2:]
            fresh = True
        elif line.startswith("["):
            table = tables.setdefault(line.strip("[]"), _Table(comment if fresh else ""))
            fresh = False
        elif not line:
            comment, fresh = "", False
        else:
            key = line.partition("=")[0].strip()
            if fresh or not table.groups:
                table.groups.append(_Group([], comment))
            table.groups[-1].keys.append(key)
            fresh = False
    return tables


if __name__ == "__main__":
    sys.stdout.write(document())
