"""`frost-relay tokens`: the tokens of a private relay, as its file has them; changes nothing.

A secret is shown once, by `new`, which makes it; the file is the operator's, who adds and removes tables in it.
"""

from __future__ import annotations

import os
import secrets
import time
from typing import Final

import click

from config.errors import ConfigError
from config.load import load
from supervisor.cli.base import Command, config_option, set_option

_SECRET_BYTES: Final = 24


@click.group()
def tokens() -> None:
    """The tokens of a private relay (access.tokens_file)."""


@tokens.command(name="list", cls=Command)
@config_option
@set_option
def show(file: str | None, overrides: tuple[str, ...]) -> None:
    r"""List the tokens with their limits and until when they are valid; never their secrets.

    \b
    Example:
      frost-relay tokens list
    """
    from actors.tokens import KEY, read_tokens  # noqa: PLC0415 - not for --help

    path = load(file, overrides, os.environ).access.tokens_file
    found = read_tokens(path)
    if found is None:
        raise ConfigError(KEY, path, "the file of tokens; without one everybody may connect")
    rows = [("NAME", "CONNECTIONS", "RESERVATIONS", "EXPIRES")]
    for token in found:
        expires = token.expires.isoformat() if token.expires else "never"
        expired = "" if token.valid_at(time.time()) else " (expired)"
        rows.append((token.name, _limit(token.max_connections), _limit(token.max_reservations), expires + expired))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _limit(count: int) -> str:
    return str(count) if count else "any"


@tokens.command(cls=Command)
@click.argument("name")
def new(name: str) -> None:
    r"""Make a secret, and print the table to add to the file of tokens. Then reload the relay.

    \b
    Example:
      frost-relay tokens new anna >> /etc/frost-relay/tokens.toml
    """
    from actors.tokens import is_name  # noqa: PLC0415 - not for --help

    if not is_name(name):
        raise ConfigError("NAME", name, "1 to 64 letters, digits, dots, dashes and underscores")
    click.echo(f'[[tokens]]\nname = "{name}"\nsecret = "{secrets.token_hex(_SECRET_BYTES)}"\n')


COMMANDS: Final = (tokens,)
