/*
 * How a wallet in a browser starts js-libp2p, becomes reachable through a relay, stays so, and leaves after the call.
 *
 * docs/wallets.md quotes this file whole, the example and the tests of the relay run it. It must hold nothing that only they
 * need.
 */

import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { identify, identifyPush } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { webRTC } from '@libp2p/webrtc'
import { webSockets } from '@libp2p/websockets'
import { createLibp2p } from 'libp2p'

const FIRST_PAUSE_MS = 1_000
const LONGEST_PAUSE_MS = 60_000
const CALL_TRIES = 3

/**
 * What createLibp2p takes. `iceServers` are your STUN servers (left out: those that @libp2p/webrtc names). `insecure` is
 * for a relay on your own machine: by default a browser dials neither ws:// nor private addresses. `webSocket` is for a
 * private relay: see docs/tokens.md.
 */
export function walletSettings ({
  listen = ['/p2p-circuit', '/webrtc'], iceServers, insecure = false, webSocket = webSockets()
} = {}) {
  return {
    addresses: { listen },
    transports: [
      webSocket,
      webRTC(iceServers == null ? {} : { rtcConfiguration: { iceServers } }),
      circuitRelayTransport()
    ],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionGater: insecure ? { denyDialMultiaddr: () => false } : {},
    // All callers come from the relay's address, and js-libp2p takes 5 connections a second from one address.
    connectionManager: { inboundConnectionThreshold: 100 },
    // By identifyPush the relay tells at once when its addresses change, and not at the next connection.
    services: { identify: identify(), identifyPush: identifyPush(), ping: ping() }
  }
}

/** A node that stays with the relay, and a function that makes it leave. */
export async function startWallet (relay, settings) {
  const node = await createLibp2p(walletSettings(settings))
  return { node, leave: stayWith(node, relay) }
}

/**
 * Connects to a relay, and again whenever the connection is lost: js-libp2p itself tries once, at once, and then no more.
 * The node reserves by itself as soon as it is connected. Returns a function that leaves the relay.
 */
export function stayWith (node, relay) {
  const name = relay.getComponents().findLast(component => component.name === 'p2p').value
  const left = new AbortController()
  let pauseMs = FIRST_PAUSE_MS
  let timer

  async function dial () {
    try {
      await node.dial(relay, { signal: left.signal })
      pauseMs = FIRST_PAUSE_MS
    } catch {
      again()
    }
  }

  function again () {
    if (!left.signal.aborted) {
      clearTimeout(timer)
      timer = setTimeout(dial, pauseMs * (0.5 + Math.random())) // not all wallets at the same moment
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)
    }
  }

  function disconnected ({ detail: peer }) {
    if (peer.toString() === name) {
      again()
    }
  }

  node.addEventListener('peer:disconnect', disconnected)
  dial()
  return async function leave () {
    left.abort()
    clearTimeout(timer)
    node.removeEventListener('peer:disconnect', disconnected)
    for (const connection of node.getConnections().filter(({ remotePeer }) => remotePeer.toString() === name)) {
      // A node that searches for a relay would be back at once: it must not know the way.
      await node.peerStore.patch(connection.remotePeer, { multiaddrs: [] })
      await connection.close()
    }
  }
}

/** The addresses to give to those who are to call, as soon as there are any. `signal` says when to give up. */
export async function whenReachable (node, signal) {
  for (;;) {
    const addresses = node.getMultiaddrs().filter(address => address.toString().includes('/p2p-circuit/webrtc/'))
    if (addresses.length > 0) {
      return addresses
    }
    await new Promise((resolve, reject) => {
      node.addEventListener('self:peer:update', resolve, { once: true })
      signal?.addEventListener('abort', () => { reject(signal.reason) }, { once: true })
    })
  }
}

/**
 * A direct connection to whoever can be called at this address. A dial hangs now and then though nothing is wrong; js-libp2p
 * ends it after 6 s, and the next one begins afresh. What the relay has refused is not asked for again.
 */
export async function call (node, address) {
  for (let left = CALL_TRIES - 1; ; left--) {
    try {
      return await node.dial(address) // without a signal: who gives up earlier joins the dial that hangs with the next one
    } catch (error) {
      await node.hangUp(address)
      if (left === 0 || refusal(error) != null) {
        throw error
      }
    }
  }
}

/** The status with which a relay has refused a call, such as NO_RESERVATION; undefined when it failed otherwise. */
export function refusal (error) {
  const status = /with status ([A-Z_]+)/.exec(error.message)?.[1]
  return status ?? [...(error.errors ?? []), ...(error.cause == null ? [] : [error.cause])].map(refusal).find(Boolean)
}

/** Closes the circuits to a peer that there is a direct connection to: they would stay open, and a relay has few. */
export async function endSignalling (node, peer) {
  const relayed = node.getConnections(peer).filter(connection => connection.limits != null)
  await Promise.all(relayed.map(async connection => { await connection.close() }))
}
