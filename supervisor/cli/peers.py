"""`frost-relay peers`, `circuits` and `kick`: who is there, who talks to whom, and the end of it."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from inspect import cleandoc
from typing import Any, Final

import click

from supervisor.cli.base import Command, FailedError, say
from supervisor.cli.control import Relay, with_relay
from supervisor.cli.words import printable, since, size, table, until

_EXIT_CODES: Final = r"""\b
Exit codes:
  0  shown
  1  no relay runs, or it does not answer; one line says where was looked
  2  an argument that cannot be used
"""
_PAGE: Final = 1000  # rows of one request, supervisor/admin/listing.py


def _peer_id(_ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A peer ID in any of its notations, as it was written."""
    from transports.identity import IdentityError, parse_peer_id  # noqa: PLC0415 - not for --help

    try:
        if value is not None:
            parse_peer_id(value)
    except IdentityError as error:
        raise click.BadParameter(str(error), param=param) from None
    return value


def _subnet(_ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """An IP address or a subnet, as it was written."""
    try:
        if value is not None:
            ipaddress.ip_network(value, strict=False)
    except ValueError as error:
        raise click.BadParameter(str(error), param=param) from None
    return value


_peer_option = click.option("--peer", callback=_peer_id, metavar="PEER", help="Only this peer.")
_worker_option = click.option("--worker", metavar="NAME", help="Only of this worker, such as ws-9091/0.")
_limit_option = click.option(
    "--limit", type=click.IntRange(min=1), default=1000, show_default=True, metavar="N", help="At most N rows."
)
_json_option = click.option("--json", "as_json", is_flag=True, help="As JSON lines, one a row.")


class _ListCommand(Command):
    """A command that shows a list; all of them end alike."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options["help"] = f"{cleandoc(options['help'])}\n{_EXIT_CODES}"
        super().__init__(*arguments, **options)


@click.command(cls=_ListCommand)
@with_relay
@_peer_option
@click.option("--ip", callback=_subnet, metavar="ADDRESS", help="Only from this IP address or subnet.")
@_worker_option
@click.option("--transport", type=click.Choice(["tcp", "ws", "wss"]), help="Only over this transport.")
@click.option("--all", "unreserved", is_flag=True, help="Also those who are connected without a reservation.")
@_limit_option
@_json_option
def peers(
    relay: Relay,
    peer: str | None,
    ip: str | None,
    worker: str | None,
    transport: str | None,
    unreserved: bool,
    limit: int,
    as_json: bool,
) -> None:
    r"""List who holds a reservation: where from, since when, until when, and how many circuits it is in.

    \b
    Examples:
      frost-relay peers
      frost-relay peers --ip 203.0.113.0/24 --transport ws
      frost-relay peers --all --json --limit 100000 | jq -r .agent | sort | uniq -c
    """
    asked = {"peer": peer, "ip": ip, "worker": worker, "transport": transport, "all": "1" if unreserved else None}
    rows = list(_rows(relay, "peers", asked, limit))
    now = datetime.now(UTC)
    _show(
        rows,
        as_json,
        ("PEER", "ADDRESS", "WORKER", "SINCE", "UNTIL", "CIRC", "AGENT"),
        lambda row: (
            row["peer"],
            row["address"],
            row["worker"],
            since(row["since"], now),
            until(row["until"], now),
            row["circuits"],
            printable(row["agent"]) or "-",
        ),
    )


@click.command(cls=_ListCommand)
@with_relay
@_peer_option
@_worker_option
@_limit_option
@_json_option
def circuits(relay: Relay, peer: str | None, worker: str | None, limit: int, as_json: bool) -> None:
    r"""List the circuits: who called whom, since when, and the bytes each way.

    A circuit is `calling` until its target has accepted it. --worker is that of the source.

    \b
    Examples:
      frost-relay circuits
      frost-relay circuits --peer 12D3KooWHqDqb8Bh9CzFFBMVdbDYH6pZxcyX2nAVqT2ycpxyRLdC
    """
    rows = list(_rows(relay, "circuits", {"peer": peer, "worker": worker}, limit))
    now = datetime.now(UTC)
    _show(
        rows,
        as_json,
        ("SOURCE", "TARGET", "STATE", "SINCE", "TO TARGET", "TO SOURCE", "WORKERS"),
        lambda row: (
            row["source"],
            row["target"],
            row["state"],
            since(row["since"], now),
            size(row["to_target_bytes"]),
            size(row["to_source_bytes"]),
            f"{row['source_worker']} > {row['target_worker']}",
        ),
    )


@click.command(cls=Command)
@with_relay
@click.argument("peer", callback=_peer_id)
@click.option("--json", "as_json", is_flag=True, help="What was done, as JSON.")
def kick(relay: Relay, peer: str, as_json: bool) -> None:
    r"""End all connections of PEER, and with them its reservation and circuits.

    It may come back at once: to keep it out, add it to access.deny_peers. Counted and logged as `kicked`.

    \b
    Example:
      frost-relay kick 12D3KooWHqDqb8Bh9CzFFBMVdbDYH6pZxcyX2nAVqT2ycpxyRLdC
    \b
    Exit codes:
      0  it was connected, and its connections are being ended
      1  it is not connected, or no relay runs
      2  that is no peer ID
    """
    answer = relay.post("/kick", {"peer": peer})
    _warn_of(answer["missing"])
    ended: int = answer["connections"]
    if not ended:
        raise FailedError(f"{answer['peer']} is not connected")
    if as_json:
        click.echo(json.dumps(answer))
        return
    click.echo(f"ended {ended} connection{'' if ended == 1 else 's'} of {answer['peer']}")


def _rows(relay: Relay, name: str, asked: Mapping[str, object], limit: int) -> Iterator[dict[str, Any]]:
    """Up to `limit` rows, page by page; says when there are more, or when somebody did not answer."""
    after: str | None = None
    missing: list[str] = []
    while limit:
        page = relay.get(f"/{name}.json", {**asked, "limit": min(limit, _PAGE), "after": after})
        missing += page["missing"]
        yield from page[name]
        limit -= len(page[name])
        after = page["next"]
        if after is None:
            break
    _warn_of(missing)
    if after is not None:
        say("there are more; --limit shows them")


def _warn_of(missing: list[str]) -> None:
    if missing:
        say(f"did not answer, so what they hold is missing: {', '.join(missing)}")


def _show(rows: list[dict[str, Any]], as_json: bool, head: tuple[str, ...], cells: Any) -> None:
    if as_json:
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
    else:
        click.echo("\n".join(table(head, map(cells, rows), right=("SINCE", "UNTIL", "CIRC", "TO TARGET", "TO SOURCE"))))


COMMANDS: Final = (peers, circuits, kick)
