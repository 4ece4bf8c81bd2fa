"""`frost-relay reload`: what a running relay is asked to do about itself, and the wait until it is done."""

from __future__ import annotations

import time
from typing import Any, Final

import click

from supervisor.cli.base import EXIT_CONFIG, Command, FailedError, say
from supervisor.cli.control import Relay, with_relay

RELOAD_LIMIT_S: Final = 30.0
"""A reload is over after 5 s, and may wait for another one before it."""
_LOOK_S: Final = 0.1


@click.command(name="reload", cls=Command)
@with_relay
def reload_command(relay: Relay) -> None:
    r"""Have the running relay read its settings again, and wait for what comes of it.

    They are read from where they came at its start. All of them are checked first: either they hold in every process,
    and nobody who is connected and still allowed is dropped, or one line says which is wrong, and nothing has changed.

    \b
    Exit codes:
      0  the new settings hold; what waits for a restart is named
      1  no relay runs, or it does not answer
      2  a setting cannot be used; nothing has changed
    \b
    Example:
      frost-relay reload
    """
    begun = relay.post("/reload")["begun"]
    outcome = _outcome(relay, begun)
    if not outcome["ok"]:
        say(outcome["error"])
        click.get_current_context().exit(EXIT_CONFIG)
    for name in outcome["late"]:
        say(f"{name} has not answered yet; it is told again until it does")
    for key in outcome["needs_restart"]:
        click.echo(f"{key} waits for a restart")
    click.echo("the new settings hold")


def _outcome(relay: Relay, begun: int) -> dict[str, Any]:
    """Of the first reload that began after `begun` of them had: it has read what was there when we asked."""
    end = time.monotonic() + RELOAD_LIMIT_S
    while time.monotonic() < end:
        outcomes: list[dict[str, Any]] = relay.get("/status.json")["reload"]["outcomes"]
        for outcome in outcomes:
            if outcome["number"] > begun:
                return outcome
        time.sleep(_LOOK_S)
    raise FailedError(f"the relay did not reload within {RELOAD_LIMIT_S:.0f} s; its log says why")


COMMANDS: Final = (reload_command,)
