"""`frost-relay status`: the relay at one look, once or again and again."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from textwrap import shorten
from typing import Any, Final

import click

from supervisor.cli.base import Command, FailedError
from supervisor.cli.control import Relay, with_relay
from supervisor.cli.words import duration, size, table

_TOTALS: Final = ("reservations", "circuits", "connections", "pending_handshakes")
_FIGURES: Final = ("PID", "UPTIME", "RESTARTS", "MEMORY", "CONN", "RESV", "CIRC")
_COLUMNS: Final = 80
_CLEAR: Final = "\x1b[H\x1b[2J"


@click.command(cls=Command)
@with_relay
@click.option("--json", "as_json", is_flag=True, help="The whole of it as JSON; with --watch, one line each time.")
@click.option(
    "--watch",
    "every_s",
    is_flag=False,
    flag_value="2",
    default=None,
    type=click.FloatRange(min=0.1, max=3600),
    metavar="[S]",
    help="Show it again every S seconds (2) until Ctrl-C.",
)
def status(relay: Relay, as_json: bool, every_s: float | None) -> None:
    r"""Show the relay that runs: its processes, what it holds, whom it has refused and why.

    \b
    Examples:
      frost-relay status
      frost-relay status --watch 5
      frost-relay status --json | jq .reservations
    \b
    Exit codes:
      0  shown
      1  no relay runs, or it does not answer; one line says where was looked
    """
    if every_s is None:
        click.echo(_shown(relay, as_json))
        return
    try:
        while True:
            _show_again(relay, as_json)
            time.sleep(every_s)
    except KeyboardInterrupt:
        return


def _show_again(relay: Relay, as_json: bool) -> None:
    """Once more; a relay that is away for a while, as during a restart, is said and waited for."""
    try:
        text = _shown(relay, as_json)
    except FailedError as error:
        text = json.dumps({"error": str(error)}) if as_json else str(error)
    click.echo((_CLEAR if sys.stdout.isatty() and not as_json else "") + text)


def _shown(relay: Relay, as_json: bool) -> str:
    document = relay.get("/status.json")
    return json.dumps(document) if as_json else render(document)


def render(document: dict[str, Any]) -> str:
    """The status as text for 80 columns."""
    memory = sum(each["memory_bytes"] for each in document["workers"])
    state = "ready" if document["ready"] else "not ready"
    share = f"{size(memory)} of {size(document['memory_limit_bytes'])}"
    lines = [
        f"FROST Relay {document['version']}  {document['peer_id']}",
        f"{state}, up {duration(document['uptime_s'])}, memory {share}",
        _audit(**document["audit"]),
        "",
        *table(("HELD", "NOW", "LIMIT"), [_total(document, name) for name in _TOTALS], right=("NOW", "LIMIT")),
        "",
        *table(
            ("PROCESS", "STATE", *_FIGURES),
            [_process(each) for each in document["workers"]],
            right=_FIGURES,
        ),
        "",
    ]
    refused = sorted(((count, reason) for reason, count in document["refusals"].items() if count), reverse=True)
    if refused:
        lines += table(
            ("REFUSED", "SINCE START"), [(reason, count) for count, reason in refused], right=("SINCE START",)
        )
    else:
        lines.append("nobody was refused")
    return "\n".join((*lines, *_notices(document)))


def _notices(document: dict[str, Any]) -> Iterator[str]:
    """What an operator has to know beside the figures."""
    if document["memory_short"]:
        yield "memory is over limits.max_memory_mb: nobody new is taken"
    for each in document["workers"]:
        if each["sheds"] and each["role"] == "listener":
            yield f"{each['name']} lags: newcomers wait"
    for each in document["denied"]:
        name = each.get("peer") or each.get("address")
        yield f"denied {duration(each['left_s'])} for crashes: {name}"
    for each in document["certificates"]:
        yield f"certificate of {each['listener']}: {each['days_left']:.0f} days left"
    for outcome in document["reload"]["outcomes"][-1:]:
        if outcome["error"]:
            yield shorten(f"the last reload changed nothing: {outcome['error']}", _COLUMNS, placeholder=" …")
        if outcome["needs_restart"]:
            yield shorten(f"waits for a restart: {', '.join(outcome['needs_restart'])}", _COLUMNS, placeholder=" …")


def _audit(age_s: float | None, differences: int, mended: int) -> str:
    if age_s is None:
        return "audit of the registry: not yet"
    found = f"{differences} slots differ" if differences else "nothing differs"
    return f"audit of the registry, {duration(age_s)} ago: {found}, {mended} mended since start"


def _total(document: dict[str, Any], name: str) -> tuple[str, int, int]:
    return name.replace("_", " "), document[name], document["limits"][f"max_{name}"]


def _process(each: dict[str, Any]) -> tuple[object, ...]:
    held = [each[name] if each["role"] == "listener" else "-" for name in ("connections", "reservations", "circuits")]
    alive = (each["pid"], duration(each["uptime_s"])) if each["pid"] else ("-", "-")
    return (each["name"], each["state"], *alive, each["restarts"], size(each["memory_bytes"]), *held)


COMMANDS: Final = (status,)
