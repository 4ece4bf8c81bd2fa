"""The commands `frost-relay` and `frost-relay-server`: what users type, and what they read when they typed it wrong.

Thin: a command reads its arguments, calls what does the work and says what came of it. Each module here has its
commands in COMMANDS; what they share (options, exit codes, the one way an error looks) is in base.py. The relay itself
may import nothing of this, and what is slow to import is imported when a command runs: `--help` answers at once.
"""

from __future__ import annotations

from typing import Final

import click

from supervisor.cli import check, completion, identity, install, lifecycle, peers, run, settings, status, tokens
from supervisor.cli.base import version_option

__all__ = ["main", "server"]

_MODULES: Final = (run, check, status, peers, settings, identity, install, lifecycle, tokens, completion)
"""In the order in which `--help` shows them."""


_EXIT_CODES: Final = """
\b
Exit codes:
  0  done
  1  it could not be done; one line says why
  2  a setting or an argument that cannot be used
"""


class _InOrder(click.Group):
    """A group whose help lists the commands as they were added, those that are used most first."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, not sorted."""
        return list(self.commands)


@click.group(name="frost-relay", cls=_InOrder, epilog=_EXIT_CODES)
@version_option
def main() -> None:
    """A libp2p Circuit Relay v2 server through which two browsers find each other."""


for _module in _MODULES:
    for _command in _module.COMMANDS:
        main.add_command(_command)

server: Final = run.server
"""The second program, which is `run` without a subcommand."""
