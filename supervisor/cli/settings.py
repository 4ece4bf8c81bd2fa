"""`frost-relay config`: show and check the settings; starts nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, Final

import click

from config.load import load, load_with_origins, to_tables
from config.origins import Origins
from supervisor.cli.base import Command, config_option, set_option


@click.group()
def config() -> None:
    """Show and check the configuration; starts nothing."""


@config.command(cls=Command)
@config_option
@set_option
@click.option("--json", "as_json", is_flag=True, help='As JSON: {"value": …, "from": …} for each key.')
def show(file: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    r"""Print every setting as TOML, with the value that it has and what set it.

    Behind each value stands what set it: the file with its line, a variable of the environment, --set, or default. What
    is shown can be used as a configuration file.

    \b
    Examples:
      frost-relay config show
      frost-relay config show | grep -v '# default'
      FROST_RELAY__LOG__LEVEL=debug frost-relay config show --config relay.toml
    \b
    Exit codes:
      0  shown
      2  a setting cannot be used; one line says which
    """
    settings, origins = load_with_origins(file, overrides, os.environ)
    tables = to_tables(settings)
    if as_json:
        click.echo(json.dumps(_with_origins(tables, origins, ()), ensure_ascii=False, indent=2))
    else:
        click.echo("\n".join(_toml(tables, origins)), nl=False)


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


def _toml(tables: dict[str, Any], origins: Origins) -> Iterator[str]:
    """The settings in the notation of the configuration file, what set them behind them as comments."""
    for name, table in tables.items():
        rows, head = (table, f"[[{name}]]") if isinstance(table, list) else ([table], f"[{name}]")
        for index, row in enumerate(rows):
            place = (name, index) if isinstance(table, list) else (name,)
            texts = {key: f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in row.items()}
            width = min(max(map(len, texts.values())), _WIDEST)
            yield head
            yield from (f"{text.ljust(width)}  # {origins.of((*place, key))}" for key, text in texts.items())
            yield ""


_WIDEST: Final = 48
"""A value that is longer does not move the comments of the others."""


def _with_origins(value: Any, origins: Origins, path: tuple[str | int, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _with_origins(item, origins, (*path, key)) for key, item in value.items()}
    if isinstance(value, list) and path == ("listeners",):
        return [_with_origins(item, origins, (*path, index)) for index, item in enumerate(value)]
    return {"value": value, "from": origins.of(path)}


COMMANDS: Final = (config,)
