/*
 * A js-libp2p relay for comparison: what its library does by default, with every limit out of the way.
 *
 * It prints its addresses, one a line, once it serves, and ends on SIGTERM. It must never do more than an operator would
 * write: what is measured is the library.
 */

import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayServer } from '@libp2p/circuit-relay-v2'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { webSockets } from '@libp2p/websockets'
import { createLibp2p } from 'libp2p'

const unlimitedStreams = { maxInboundStreams: Infinity, maxOutboundStreams: Infinity }

const node = await createLibp2p({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0/ws', '/ip4/127.0.0.1/tcp/0'] },
  transports: [webSockets(), tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  connectionManager: {
    maxConnections: Infinity,
    inboundConnectionThreshold: Infinity,
    maxIncomingPendingConnections: Infinity,
    reconnectRetries: 0
  },
  services: {
    identify: identify(unlimitedStreams),
    relay: circuitRelayServer({
      maxInboundHopStreams: Infinity,
      maxOutboundHopStreams: Infinity,
      maxOutboundStopStreams: Infinity,
      reservations: { maxReservations: Infinity, applyDefaultLimit: false }
    })
  }
})

process.once('SIGTERM', async () => {
  await node.stop()
  process.exit(0)
})
for (const address of node.getMultiaddrs()) {
  console.log(address.toString())
}
