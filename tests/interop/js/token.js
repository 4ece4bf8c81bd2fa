/*
 * A WebSocket transport that shows a private relay its token.
 *
 * A browser can set no header, and js-libp2p takes no WebSocket address that has a path, so the path is added where the
 * address is dialled: whichever of the relay's addresses it is, because js-libp2p comes back to those that the relay has
 * told it. docs/tokens.md quotes this file whole, and the tests of the relay run it.
 */

import { webSockets } from '@libp2p/websockets'

/** For `transports`, in place of webSockets(): dials to the relay with this peer ID carry the token. */
export function webSocketsWithToken (relayPeer, token) {
  const path = `/http-path/${encodeURIComponent(`/t/${token}`)}`
  return components => {
    const transport = webSockets()(components)
    const dial = transport.dial.bind(transport)
    transport.dial = async (address, options) => {
      const peer = address.getComponents().findLast(({ name }) => name === 'p2p')
      return await dial(peer?.value === relayPeer ? address.encapsulate(path) : address, options)
    }
    return transport
  }
}
