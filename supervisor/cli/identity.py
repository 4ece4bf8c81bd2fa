"""`frost-relay id`: the relay's name, and how it moves from one relay to the next."""

from __future__ import annotations

import base64
import os
from typing import IO, Final

import click

from config.load import load
from supervisor.cli.base import Command, config_option, set_option

_MAX_IMPORT_BYTES: Final = 4096


@click.command(name="id", cls=Command)
@config_option
@set_option
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


COMMANDS: Final = (identity,)
