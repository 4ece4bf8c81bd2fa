"""The addresses that a relay announces: whether the way we came is among them, and whether they lead anywhere.

Browsers come back to what identify told them, so a wrong list means that none does. Nothing is said over the
connections that are tried here; they are opened and closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from config.errors import ConfigError
from supervisor.check import address as addresses
from supervisor.check.address import Address
from supervisor.check.dialer import connect, resolve
from supervisor.check.report import Finding, Trouble

MAX_READ: Final = 64
MAX_DIALLED: Final = 8
DIAL_LIMIT_S: Final = 3.0
"""For all of them, which are tried at once."""


def dialable(binaries: Sequence[bytes]) -> list[Address]:
    """Those of the announced addresses that are over TCP or WebSocket; at most MAX_DIALLED."""
    found: list[Address] = []
    for binary in binaries[:MAX_READ]:
        try:
            found.append(addresses.parse(str(Multiaddr(binary))))
        except (MultiaddrError, ConfigError, ValueError):
            continue  # QUIC, WebRTC and others are not looked at
    return found[:MAX_DIALLED]


async def look(address: Address, announced: Sequence[Address]) -> Finding:
    """What is to be said of the list by one who came by `address`. Raises Trouble when it leads nowhere."""
    mend = f'name it in the relay\'s configuration: announce.addresses = ["{address.multiaddr}"]'
    if not announced:
        return Finding("the relay announces no address over TCP or WebSocket", mend)
    closed = await _not_dialled(announced)
    listed = _several(announced)
    if any(address.same_place(each) for each in announced):
        if not closed:
            return Finding(listed)
        return Finding(f"not dialled from here: {_several(closed)}", "peers may try these in vain: take them off")
    if len(closed) == len(announced):
        raise Trouble(f"none of the announced addresses can be dialled: {listed}", f"browsers redial these; {mend}")
    return Finding(f"this address is not announced, but {listed}", f"browsers redial those; {mend}")


def _several(those: Sequence[Address]) -> str:
    return ", ".join(each.multiaddr for each in those)


async def _not_dialled(announced: Sequence[Address]) -> list[Address]:
    """Those to which no TCP connection can be made, in their order."""
    opened: set[int] = set()

    async def dial(index: int) -> None:
        try:
            async with await connect(await resolve(announced[index]), DIAL_LIMIT_S):
                opened.add(index)
        except Trouble:
            pass  # not in `opened`, which is the answer

    with trio.move_on_after(DIAL_LIMIT_S):
        async with trio.open_nursery() as nursery:
            for index in range(len(announced)):
                nursery.start_soon(dial, index)
    return [each for index, each in enumerate(announced) if index not in opened]
