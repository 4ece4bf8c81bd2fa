"""`frost-relay reload` and `drain`: what a running relay is asked to do about itself, and the wait until it is done."""

from __future__ import annotations

import time
from typing import Any, Final

import click

from supervisor.cli.base import EXIT_CONFIG, Command, FailedError, say
from supervisor.cli.control import Relay, with_relay

RELOAD_LIMIT_S: Final = 30.0
"""A reload is over after 5 s, and may wait for another one before it."""
DRAIN_MARGIN_S: Final = 15.0
"""What the end takes beyond the time of the drain, at most."""
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
        for outcome in _outcomes(relay):
            if outcome["number"] > begun:
                return outcome
        time.sleep(_LOOK_S)
    raise FailedError(f"the relay did not reload within {RELOAD_LIMIT_S:.0f} s; its log says why")


def _outcomes(relay: Relay) -> list[dict[str, Any]]:
    """Of the latest reloads; none while the process that answers is replaced, as by another `admin.listen`."""
    try:
        outcomes: list[dict[str, Any]] = relay.get("/status.json")["reload"]["outcomes"]
    except FailedError:
        if relay.lives():
            return []
        raise
    return outcomes


@click.command(name="drain", cls=Command)
@click.option("--timeout", "timeout_s", type=click.FloatRange(0, 86_400), default=60.0, show_default=True,
              help="Seconds that circuits may go on; what is left then is cut.")  # fmt: skip
@click.option("--worker", metavar="NAME", default="", help="Only this worker, such as ws-9091/0; a new one follows it.")
@with_relay
def drain_command(relay: Relay, timeout_s: float, worker: str) -> None:
    r"""End the running relay once its calls have ended, and wait for that.

    It takes no new connections and no new reservations, /readyz answers 503, calls go on, and with the last circuit, or
    when the time is up, every peer is told goodbye. A service manager that always restarts starts it again.

    With --worker, one process says goodbye in such a moment and is started anew; nobody is refused meanwhile.

    \b
    Examples:
      frost-relay drain --timeout 120
      frost-relay drain --worker ws-9091/0
    """
    before = _worker(relay, worker) if worker else {}
    relay.post("/drain", {"timeout_s": timeout_s, "worker": worker})
    end = time.monotonic() + timeout_s + DRAIN_MARGIN_S
    while time.monotonic() < end:
        if worker and (now := _worker(relay, worker))["pid"] not in {0, before["pid"]} and now["state"] == "ready":
            click.echo(f"{worker} was started anew")
            return
        if not worker and not relay.lives():
            click.echo("the relay has ended")
            return
        time.sleep(_LOOK_S)
    raise FailedError(f"still not drained after {timeout_s + DRAIN_MARGIN_S:.0f} s; the relay's log says why")


def _worker(relay: Relay, name: str) -> dict[str, Any]:
    """One worker's row in the status. FailedError names those that there are."""
    rows: list[dict[str, Any]] = relay.get("/status.json")["workers"]
    for row in rows:
        if row["name"] == name and row["role"] == "listener":
            return row
    names = ", ".join(row["name"] for row in rows if row["role"] == "listener")
    raise FailedError(f"no worker {name}: there are {names}")


COMMANDS: Final = (reload_command, drain_command)
