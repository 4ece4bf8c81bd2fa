"""The commands `frost-relay` and `frost-relay-server`: what users type, and what they read when they typed it wrong.

Thin: each command loads the settings and calls what does the work. Exit codes: 0 a clean stop, 1 a process died that
the relay cannot live without, 2 a setting or an argument that cannot be used.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from typing import IO, Any, Final, NoReturn

import click

from config.errors import ConfigError
from config.load import load, to_tables
from config.paths import CONFIG_VARIABLE, DEFAULT_CONFIG_FILE

EXIT_CONFIG: Final = 2

_PACKAGE: Final = "frost-relay"
_MAX_IMPORT_BYTES: Final = 4096

_EXIT_CODES = """
\b
Exit codes:
  0  stopped as asked (SIGTERM, SIGINT)
  1  a process died that the relay cannot live without; start it again
  2  a setting or an argument that cannot be used; nothing was started
"""
_RUN_HELP = f"""Run the relay until SIGTERM or Ctrl-C.

Prints the addresses that can be dialled on standard output, one a line, once all listeners serve. Logs go to standard
error.

\b
Examples:
  COMMAND
  COMMAND --config /etc/frost-relay/relay.toml
  COMMAND --set limits.max_reservations=10 --set log.level=debug
  COMMAND --set 'listeners=[{{address="/ip4/127.0.0.1/tcp/0/ws", workers=2}}]'
{_EXIT_CODES}"""


class _Command(click.Command):
    """A command whose ConfigError is one line on standard error and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            click.echo(f"frost-relay: {error}", err=True)
            ctx.exit(EXIT_CONFIG)


_config = click.option(
    "--config", "file", metavar="FILE", help=f"TOML file. Default: ${CONFIG_VARIABLE}, {DEFAULT_CONFIG_FILE}."
)
_set = click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Set one value; may be repeated.")


def _run(file: str | None, overrides: tuple[str, ...]) -> NoReturn:
    from supervisor import main as boot  # noqa: PLC0415 - Thespian and all that: not for --help

    sys.exit(boot.run(load(file, overrides, os.environ), os.environ))


@click.group(name="frost-relay", epilog=_EXIT_CODES)
@click.version_option(package_name=_PACKAGE, message="%(prog)s %(version)s")
def main() -> None:
    """A libp2p Circuit Relay v2 server through which two browsers find each other."""


@main.command(cls=_Command, help=_RUN_HELP.replace("COMMAND", "frost-relay run"))
@_config
@_set
def run(file: str | None, overrides: tuple[str, ...]) -> None:  # noqa: D103 - its help is above
    _run(file, overrides)


@click.command(cls=_Command, name="frost-relay-server", help=_RUN_HELP.replace("COMMAND", "frost-relay-server"))
@click.version_option(package_name=_PACKAGE, message="%(prog)s %(version)s")
@_config
@_set
def server(file: str | None, overrides: tuple[str, ...]) -> None:  # noqa: D103 - its help is above
    _run(file, overrides)


@main.command(name="id", cls=_Command)
@_config
@_set
@click.option("--export", "exporting", is_flag=True, help="Print the private key instead: base64 of its protobuf form.")
@click.option("--import", "source", type=click.File("rb"), metavar="FILE", help="Take over the key in FILE (-: stdin).")
def identity(file: str | None, overrides: tuple[str, ...], exporting: bool, source: IO[bytes] | None) -> None:
    r"""Print the relay's peer ID. Creates its key if there is none yet.

    The protobuf form is what other libp2p implementations write, so a relay that is replaced can keep its peer ID.
    A key that is there already is never replaced.

    \b
    Examples:
      frost-relay id
      frost-relay id --import old-relay.key
      frost-relay id --export > backup && chmod 600 backup
    """
    from supervisor.plan import key_path  # noqa: PLC0415 - not for --help
    from transports.identity import peer_id_text  # noqa: PLC0415
    from transports.key_file import (  # noqa: PLC0415
        load_or_create_host_key,
        parse_private_key,
        store_host_key,
    )

    path = key_path(load(file, overrides, os.environ), os.environ)
    if source is not None:
        store_host_key(path, parse_private_key(source.read(_MAX_IMPORT_BYTES), "--import", source.name))
    host = load_or_create_host_key(path)
    click.echo(base64.b64encode(host.private_protobuf()) if exporting else peer_id_text(host.peer_id))


@main.group()
def config() -> None:
    """Show and check the configuration; starts nothing."""


@config.command(cls=_Command)
@_config
@_set
def show(file: str | None, overrides: tuple[str, ...]) -> None:
    r"""Print every setting with the value it has, from defaults, file, environment and --set, as TOML.

    \b
    Examples:
      frost-relay config show
      FROST_RELAY__LOG__LEVEL=debug frost-relay config show --config relay.toml
    """
    click.echo(_toml(to_tables(load(file, overrides, os.environ))), nl=False)


@config.command(cls=_Command)
@click.argument("file", required=False)
@_set
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


if __name__ == "__main__":
    main(prog_name="frost-relay")
