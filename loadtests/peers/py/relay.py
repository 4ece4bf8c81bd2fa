"""A py-libp2p relay for comparison: what its library does by default, with every limit out of the way.

It prints its addresses, one a line, once it serves, and ends on SIGTERM. It must never do more than an operator would
write: what is measured is the library. Its keeper of connections is switched off, which would dial its peers.
"""

import signal
import sys

import trio
from libp2p import new_host
from libp2p.network.config import ConnectionConfig
from libp2p.rcmgr import ResourceLimits, ResourceManager
from libp2p.rcmgr.connection_limits import new_connection_limits
from libp2p.relay.circuit_v2.protocol import CircuitV2Protocol
from libp2p.relay.circuit_v2.resources import RelayLimits
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

MANY = 1_000_000
DAY_S = 86_400
LISTEN = ("/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/tcp/0")
CONNECTIONS = ConnectionConfig(
    max_connections=MANY, min_connections=0, low_watermark=0, high_watermark=MANY, max_connections_per_peer=MANY
)
RESOURCES = ResourceLimits(max_connections=MANY, max_memory_mb=MANY, max_streams=MANY)
LIMITS = RelayLimits(duration=DAY_S, data=1 << 50, max_circuit_conns=MANY, max_reservations=MANY)


async def main() -> None:
    """Serve until SIGTERM."""
    resources = ResourceManager(RESOURCES, connection_limits=new_connection_limits())
    host = new_host(enable_tcp=True, enable_websocket=True, connection_config=CONNECTIONS, resource_manager=resources)
    protocol = CircuitV2Protocol(host, LIMITS, allow_hop=True)
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with host.run(listen_addrs=[Multiaddr(text) for text in LISTEN]), background_trio_service(protocol):
            await protocol.event_started.wait()
            for address in host.get_addrs():
                sys.stdout.write(f"{address}\n")
            sys.stdout.flush()
            async for _ in signals:
                return


if __name__ == "__main__":
    trio.run(main)
