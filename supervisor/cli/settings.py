"""`frost-relay config`: show and check the settings; starts nothing."""

from __future__ import annotations

import json
import os
from typing import Any, Final

import click

from config.load import load, to_tables
from supervisor.cli.base import Command, config_option, set_option


@click.group()
def config() -> None:
    """Show and check the configuration; starts nothing."""


@config.command(cls=Command)
@config_option
@set_option
def show(file: str | None, overrides: tuple[str, ...]) -> None:
    r"""Print every setting with the value it has, from defaults, file, environment and --set, as TOML.

    \b
    Examples:
      frost-relay config show
      FROST_RELAY__LOG__LEVEL=debug frost-relay config show --config relay.toml
    """
    click.echo(_toml(to_tables(load(file, overrides, os.environ))), nl=False)


@config.command(cls=Command)
@click.argument("file", required=False)
@set_option
def check(file: str | None, overrides: tuple[str, ...]) -> None:
    r"""Check a configuration FILE as `run` would, without opening a socket or creating a key.

    \b
    Exit codes:
      0  it can be used
      2  it cannot; one line says which key, what it holds and what would be right
    \b
    Example:
      frost-relay config check /etc/frost-relay/relay.toml
    """
    from supervisor import plan  # noqa: PLC0415 - not for --help

    plan.check(load(file, overrides, os.environ), os.environ)
    click.echo("the configuration can be used")


def _toml(tables: dict[str, Any]) -> str:
    """The settings in the notation of the configuration file, so that what is shown can be used as one."""
    lines: list[str] = []
    for name, table in tables.items():
        rows, head = (table, f"[[{name}]]") if isinstance(table, list) else ([table], f"[{name}]")
        for row in rows:
            lines += [head, *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in row.items()), ""]
    return "\n".join(lines)


COMMANDS: Final = (config,)
