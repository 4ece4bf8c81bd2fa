"""`frost-relay install`: the files that a server needs, printed or written where they belong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from config.paths import DEFAULT_CONFIG_FILE
from supervisor import install as files
from supervisor.cli.base import Command


def _part_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """One flag a part, in the order of the table."""
    for name, part in reversed(list(files.PARTS.items())):
        command = click.option(f"--{name}", is_flag=True, help=part.help)(command)
    return command


@click.command(cls=Command)
@_part_options
@click.option("--name", default="", metavar="NAME", help="The name that browsers dial, for nginx.")
@click.option("--config", metavar="FILE", default=DEFAULT_CONFIG_FILE, help="Where the relay's configuration is.")
@click.option("--print", "printing", is_flag=True, help="Print the files, write nothing.")
@click.option("--root", metavar="DIR", default="/", help="Write below DIR instead of /.")
def install(name: str, config: str, printing: bool, root: str, **chosen: bool) -> None:
    r"""Write the files that run the relay on a server, and say what to do next.

    Nothing is started. Called again it brings what is new in this version, and leaves alone what is yours:
    configuration, nginx site, fail2ban's jail, and drop-ins.

    \b
    Examples:
      frost-relay install --systemd
      frost-relay install --systemd --print
      frost-relay install --nginx --certbot --name relay.example.org
    \b
    Exit codes:
      0  all files are there
      2  one cannot be written, or the service could not use it; one line says which
    """
    parts = [part for part in files.PARTS if chosen[part]]
    if not parts:
        raise click.UsageError(f"say what to install: {', '.join(f'--{part}' for part in files.PARTS)}")
    wanted = files.plan(parts, name, config, files.program() if "systemd" in parts else files.PROGRAM)
    if printing:
        click.echo("\n".join(f"# {file.path}\n\n{file.text}" for file in wanted), nl=False)
        return
    for line in files.write(wanted, root):
        click.echo(line)
    if steps := files.next_steps(parts):
        click.echo("Next:")
        for step in steps:
            click.echo(f"  {step}")


COMMANDS: Final = (install,)
