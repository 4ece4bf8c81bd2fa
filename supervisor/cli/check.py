"""`frost-relay check`: any relay, seen from outside."""

from __future__ import annotations

import gc
import json
import logging
import ssl
import sys
from typing import Final

import click

from config.errors import ConfigError
from supervisor.check.address import Address, parse
from supervisor.check.report import Extent, Report, Step, closing, line
from supervisor.cli.base import EXIT_FAILED, Command

_SECONDS: Final = click.FloatRange(min=0.1, max=86_400)


@click.command(name="check", cls=Command)
@click.argument("address")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of lines.")
@click.option("--timeout", "timeout_s", type=_SECONDS, default=10.0, show_default=True, help="Seconds for each step.")
@click.option("--idle", "idle_s", type=_SECONDS, default=None, help="Also stay silent for so many seconds.")
@click.option("--ca", "ca_file", metavar="FILE", default="", help="Believe these authorities (PEM) only.")
@click.option("--insecure", is_flag=True, help="Believe any certificate.")
@click.option("--no-refusal", is_flag=True, help="Leave out the one call that the relay has to refuse (release).")
@click.pass_context
def check(
    ctx: click.Context,
    address: str,
    as_json: bool,
    timeout_s: float,
    idle_s: float | None,
    ca_file: str,
    insecure: bool,
    no_refusal: bool,
) -> None:
    r"""Test a relay from outside: any libp2p relay v2, by its ADDRESS.

    Two hosts of another implementation (py-libp2p) connect; one reserves, the other calls it through the relay. Each
    step is ticked with its time. For one that fails the likely cause and the next thing to do are said. ADDRESS is a
    multiaddr, with or without /p2p, or wss://HOST[:PORT].

    \b
    Examples:
      frost-relay check /dns4/relay.example.org/tcp/443/tls/ws
      frost-relay check wss://relay.example.org --idle 120
      frost-relay check /ip4/127.0.0.1/tcp/9090 --json
    \b
    Exit codes:
      0  all well, perhaps with a note
      1  a step failed
      2  an argument that cannot be used
    """
    report = _examine(
        parse(address), Extent(timeout_s, idle_s or 0.0, not no_refusal), ca_file, insecure=insecure, quiet=as_json
    )
    if as_json:
        click.echo(json.dumps(report.document(), ensure_ascii=False))
    else:
        for text in closing(report):
            click.echo(text)
    ctx.exit(EXIT_FAILED if report.failed else 0)


def _examine(address: Address, extent: Extent, ca_file: str, *, insecure: bool, quiet: bool) -> Report:
    import trio  # noqa: PLC0415 - with py-libp2p behind it 75 MB and 0.8 s: not for --help, nor for a wrong argument

    from supervisor.check.dialer import Trust  # noqa: PLC0415
    from supervisor.check.examine import Examination  # noqa: PLC0415

    trust = Trust(ca_file, insecure)
    try:
        trust.context()
    except (OSError, ssl.SSLError) as error:
        raise ConfigError("--ca", ca_file, f"a PEM file with certificates ({error})") from error
    # What py-libp2p says goes wrong is a step's result already; it would stand between the lines.
    logging.getLogger("libp2p").addHandler(logging.NullHandler())
    gc.freeze()  # a collection of all that was imported takes 0.2 s, which the table would blame on the relay
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal without ✓ gets ?
    colour = sys.stdout.isatty()

    def say(step: Step) -> None:
        if not quiet:
            click.echo(line(step, colour=colour), color=colour)

    return trio.run(Examination(address, trust, extent, say).run)


COMMANDS: Final = (check,)
