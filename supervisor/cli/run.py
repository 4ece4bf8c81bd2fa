"""`frost-relay run` and `frost-relay-server`: start the relay and stay until it ends."""

from __future__ import annotations

import os
import sys
from typing import Final, NoReturn

import click

from config.load import load
from supervisor.cli.base import Command, config_option, set_option, version_option

_HELP: Final = """Run the relay until SIGTERM or Ctrl-C.

Prints the addresses that can be dialled on standard output, one a line, once all listeners serve. Logs go to standard
error.

\b
Examples:
  COMMAND
  COMMAND --config /etc/frost-relay/relay.toml
  COMMAND --set limits.max_reservations=10 --set log.level=debug
  COMMAND --set 'listeners=[{address="/ip4/127.0.0.1/tcp/0/ws", workers=2}]'

\b
Exit codes:
  0  stopped as asked (SIGTERM, SIGINT)
  1  a process died that the relay cannot live without; start it again
  2  a setting or an argument that cannot be used; nothing was started
"""


def _run(file: str | None, overrides: tuple[str, ...]) -> NoReturn:
    from supervisor import main as boot  # noqa: PLC0415 - Thespian and all that: not for --help

    sys.exit(boot.run(lambda: load(file, overrides, os.environ), os.environ))


@click.command(cls=Command, help=_HELP.replace("COMMAND", "frost-relay run"))
@config_option
@set_option
def run(file: str | None, overrides: tuple[str, ...]) -> None:  # noqa: D103 - its help is above
    _run(file, overrides)


@click.command(cls=Command, name="frost-relay-server", help=_HELP.replace("COMMAND", "frost-relay-server"))
@version_option
@config_option
@set_option
def server(file: str | None, overrides: tuple[str, ...]) -> None:  # noqa: D103 - its help is above
    _run(file, overrides)


COMMANDS: Final = (run,)
