"""Those who use a relay while it is attacked, in a process of their own: what happens to them is printed, a line each.

    python -m tests.attacks.people victims   WS_ADDRESS TCP_ADDRESS
    python -m tests.attacks.people newcomers WS_ADDRESS TCP_ADDRESS

Victims are two peers with one circuit: whatever they send comes back, and is compared. Newcomers connect, identify,
reserve and leave, each from an address where nobody has come from before. Lines are JSON: {"at_s", "took_s"} by the
monotonic clock, which all processes of a machine share, and "error" where something went wrong. They end with their
standard input.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import uvloop

from tests.scenarios.scene import joined
from tests.support.client import Client, ClientStream

VICTIMS = ("127.1.0.1", "127.1.0.2")
NEWCOMERS = "127.9"
NUMBER_BYTES = 8
PAUSE_S = 0.004
NEWCOMERS_PAUSE_S = 0.05
LIMIT_S = 10.0


def say(**what: Any) -> None:
    """One line, at once."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def victims(ws: str, tcp: str) -> None:
    """Echo numbered messages over one circuit, for as long as anybody wants to know."""
    target = await Client.dial(tcp, local=(VICTIMS[0], 0))
    await target.reserve()
    source = await Client.dial(ws, local=(VICTIMS[1], 0))
    circuit = await joined(source, target)
    echoing = asyncio.create_task(_echo(circuit.right))
    say(ready=True)
    chance = random.Random(1)
    for number in count():
        body = os.urandom(chance.randrange(1, 2000))
        sent = number.to_bytes(NUMBER_BYTES, "big") + body
        began_s = time.monotonic()
        circuit.left.write(sent)
        if await circuit.left.read(len(sent)) != sent:
            raise ValueError(f"message {number} came back changed")
        if source.errors or target.errors or echoing.done():
            raise ValueError(f"errors of the victims: {source.errors} {target.errors}")
        say(at_s=began_s, took_s=time.monotonic() - began_s)
        await asyncio.sleep(PAUSE_S)


async def _echo(stream: ClientStream) -> None:
    while True:
        head = await stream.read(1)
        rest = len(stream._buffer)
        stream.write(head + await stream.read(rest))


async def newcomers(ws: str, tcp: str) -> None:
    """Arrive one after the other, over both transports by turns."""
    say(ready=True)
    for number in count():
        began_s = time.monotonic()
        local = f"{NEWCOMERS}.{number // 250 % 250}.{1 + number % 250}"
        try:
            async with asyncio.timeout(LIMIT_S):
                await _arrive((ws, tcp)[number % 2], local)
        except Exception as error:  # noqa: BLE001 - whatever kept it out is what is asked for
            say(at_s=began_s, took_s=time.monotonic() - began_s, error=f"{type(error).__name__} {error}")
        else:
            say(at_s=began_s, took_s=time.monotonic() - began_s)
        await asyncio.sleep(NEWCOMERS_PAUSE_S)


async def _arrive(address: str, local: str) -> None:
    client = await Client.dial(address, local=(local, 0))
    try:
        if not (await client.identify()).publicKey:
            raise ValueError("the relay did not say who it is")
        await client.reserve()
    finally:
        await client.abort()


ROLES: dict[str, Callable[[str, str], Awaitable[None]]] = {"victims": victims, "newcomers": newcomers}


async def _live(role: str, ws: str, tcp: str) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    living = asyncio.ensure_future(ROLES[role](ws, tcp))
    ended = asyncio.create_task(reader.read())
    await asyncio.wait((living, ended), return_when=asyncio.FIRST_COMPLETED)
    if living.done() and (error := living.exception()) is not None:
        say(at_s=time.monotonic(), took_s=0.0, error=f"{type(error).__name__} {error}")


if __name__ == "__main__":
    uvloop.run(_live(*sys.argv[1:]))
