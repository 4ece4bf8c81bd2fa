"""`frost-relay completion`: what a shell needs to complete commands and options."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

from supervisor.cli.base import Command


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    r"""Print what SHELL needs to complete the commands and options of frost-relay.

    \b
    Examples:
      eval "$(frost-relay completion bash)"        # in ~/.bashrc
      eval "$(frost-relay completion zsh)"         # in ~/.zshrc
      frost-relay completion fish > ~/.config/fish/completions/frost-relay.fish
    """
    kind = get_completion_class(shell)
    if kind is None:  # never: the argument is one of click's own shells
        raise click.UsageError(f"no completion for {shell}")
    program = ctx.find_root().info_name or "frost-relay"
    click.echo(kind(ctx.find_root().command, {}, program, "_FROST_RELAY_COMPLETE").source())


COMMANDS: Final = (completion,)
