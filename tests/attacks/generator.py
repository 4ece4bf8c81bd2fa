"""One attack, as a process of its own, so that it takes nothing of the victims' time but what the machine has not.

    python -m tests.attacks.generator NAME WS_ADDRESS TCP_ADDRESS

It says that it begins, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from tests.attacks.catalogue import ATTACKS
from tests.attacks.ground import Ground


async def _attack(name: str, ws: str, tcp: str) -> None:
    attack = next(each for each in ATTACKS if each.name == name)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    sys.stdout.write("begins\n")
    sys.stdout.flush()
    running = asyncio.ensure_future(attack.run(Ground(ws, tcp, attack.where())))
    ended = asyncio.create_task(reader.read())
    await asyncio.wait((running, ended), return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()  # an attacker that fails is a fault of the test
    # The others are where they wait to be thrown out; the end of this process resets all that they have.


if __name__ == "__main__":
    uvloop.run(_attack(*sys.argv[1:]))
