"""The one client that asks every relay: the tests' client with the identify of a real application.

Its CPU is not counted. It must treat every relay in the same way.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from actors import identify, stop
from actors.identify import IdentifyAnswer
from actors.proto.circuit_pb2 import HopMessage, Status
from tests.support.client import Client, ClientStream, HopRefusedError, OnStop
from transports.identity import HostKey

AGENT: Final = "frost-relay-bench"
PROTOCOLS: Final = (identify.PROTOCOL, stop.PROTOCOL)
OBSERVED: Final = bytes.fromhex("047f000001062383")  # /ip4/127.0.0.1/tcp/9091: where a peer says it sees the relay
WAIT_S: Final = 30.0


class LoadClient(Client):
    """A peer that notices when it is asked who it is, and answers as js-libp2p does: key, protocols, signed record."""

    def __init__(self, host: HostKey, on_stop: OnStop) -> None:
        super().__init__(host, on_stop)
        self.identified = asyncio.Event()

    async def _serve_identify(self, stream: ClientStream) -> None:
        stream.write(IdentifyAnswer(self.host, (), PROTOCOLS, AGENT, 1).frame(OBSERVED))
        stream.close()
        self.identified.set()

    @classmethod
    async def enter(
        cls,
        address: str,
        *,
        tls: ssl.SSLContext | None = None,
        local: tuple[str, int] | None = None,
        host: HostKey | None = None,
        sock: socket.socket | None = None,
    ) -> LoadClient:
        """Connect, and identify each other: the relay's question is answered, and so is the client's."""
        client = await cls.dial(address, host, tls=tls, local=local, sock=sock)
        answer = await client.identify()
        assert answer.publicKey, "a relay says who it is"
        async with asyncio.timeout(WAIT_S):
            await client.identified.wait()
        return client

    async def reserve(self) -> HopMessage:
        """RESERVE; does not insist on the FIN behind the answer, which py-libp2p leaves out."""
        answer, stream = await self.ask(HopMessage(type=HopMessage.RESERVE))
        stream.close()
        if answer.status != Status.OK:
            raise HopRefusedError(answer.status)
        return answer


async def opened(caller: LoadClient, target: LoadClient) -> tuple[ClientStream, ClientStream]:
    """The two ends of a new circuit."""
    near = await caller.connect(target.peer_id)
    _, far = await target.called()
    return near, far


@asynccontextmanager
async def circuit(caller: LoadClient, target: LoadClient) -> AsyncIterator[tuple[ClientStream, ClientStream]]:
    """A circuit's two ends; closed from both sides when the block is left."""
    near, far = await opened(caller, target)
    yield near, far
    near.close()
    await far.read_to_end()
    far.close()
    await near.read_to_end()
