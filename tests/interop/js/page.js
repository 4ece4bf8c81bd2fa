/*
 * A js-libp2p peer in a browser page, driven from the tests through `globalThis.peer`.
 *
 * It is what a wallet would write: published packages, their defaults, nothing of the relay's own. Every function takes and
 * returns plain JSON, and every wait has an end. It must never repair what goes wrong: a test decides what a failure means.
 */

import { peerConnections } from './peer_connections.js'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { webRTC } from '@libp2p/webrtc'
import { webSockets } from '@libp2p/websockets'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const ECHO_PROTOCOL = '/interop/echo/1.0.0'
const WAIT_MS = 15_000
// Between two pages of one machine the rest of a dial takes milliseconds once ICE has connected.
const RACE_AFTER_MS = 2_000

let node
let echo

/** Sends back what comes, on direct and on relayed connections. */
async function answerEcho (stream) {
  for await (const chunk of stream) {
    if (!stream.send(chunk)) {
      await stream.onDrain({ signal: AbortSignal.timeout(WAIT_MS) })
    }
  }
  await stream.close({ signal: AbortSignal.timeout(WAIT_MS) })
}

/** The asking end of one echo stream, which stays open over many messages. */
class EchoStream {
  constructor (stream) {
    this.stream = stream
    this.received = new Uint8Array(0)
    stream.addEventListener('message', ({ data }) => {
      this.received = Uint8Array.from([...this.received, ...data.subarray()])
    })
  }

  async say (text) {
    const sent = new TextEncoder().encode(text)
    if (!this.stream.send(sent)) {
      await this.stream.onDrain({ signal: AbortSignal.timeout(WAIT_MS) })
    }
    const signal = AbortSignal.timeout(WAIT_MS)
    while (this.received.length < sent.length) {
      if (this.stream.status !== 'open') {
        throw new Error(`the echo stream is ${this.stream.status}`)
      }
      await nextEvent(this.stream, ['message', 'remoteCloseWrite', 'close'], signal)
    }
    const answer = this.received.subarray(0, sent.length)
    this.received = this.received.subarray(sent.length)
    return new TextDecoder().decode(answer)
  }
}

function nextEvent (target, names, signal) {
  return new Promise((resolve, reject) => {
    const done = new AbortController()
    for (const name of names) {
      target.addEventListener(name, () => { done.abort(); resolve() }, { signal: done.signal, once: true })
    }
    signal.addEventListener('abort', () => { done.abort(); reject(signal.reason) }, { signal: done.signal, once: true })
  })
}

function describe (connection) {
  return {
    id: connection.id,
    peer: connection.remotePeer.toString(),
    address: connection.remoteAddr.toString(),
    limited: connection.limits != null
  }
}

function connectionById (id) {
  const connection = node.getConnections().find(candidate => candidate.id === id)
  if (connection == null) {
    throw new Error(`connection ${id} is gone`)
  }
  return connection
}

/**
 * Aborts with the name of the known race when the browsers have connected to each other and the dial hangs all the same,
 * waiting for its init channel. A dial that hangs before or after that hangs for another reason, and is left alone.
 */
function watchForRace () {
  const known = new Set(peerConnections)
  const race = new AbortController()
  let since
  let past = false
  const timer = setInterval(() => {
    const connected = peerConnections.some(pc => !known.has(pc) && pc.connectionState === 'connected')
    since = connected && !past ? since ?? performance.now() : undefined
    if (since != null && performance.now() - since > RACE_AFTER_MS) {
      race.abort(new Error('init channel race of @libp2p/webrtc'))
    }
  }, 50)
  return {
    signal: race.signal,
    onProgress: ({ type }) => { past ||= type === 'webrtc:close-signaling-stream' },
    end: () => { clearInterval(timer) }
  }
}

const calls = {
  /** Starts the node; returns once it listens, so with a circuit address once it holds a reservation. */
  async start ({ listen = [] } = {}) {
    node = await createLibp2p({
      addresses: { listen },
      transports: [webSockets(), webRTC({ rtcConfiguration: { iceServers: [] } }), circuitRelayTransport()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
      // In browsers the default refuses plain WebSocket and loopback addresses.
      connectionGater: { denyDialMultiaddr: () => false },
      services: { identify: identify(), ping: ping() }
    })
    await node.handle(ECHO_PROTOCOL, answerEcho, { runOnLimitedConnection: true })
    return { peer: node.peerId.toString(), addresses: node.getMultiaddrs().map(String) }
  },

  async connections () {
    return node.getConnections().map(describe)
  },

  /** Dials an address; a dial that loses the known race of @libp2p/webrtc returns {race: true}. */
  async dial ({ address }) {
    const race = watchForRace()
    try {
      const signal = AbortSignal.any([AbortSignal.timeout(WAIT_MS), race.signal])
      const connection = await node.dial(multiaddr(address), { signal, onProgress: race.onProgress })
      return { ...describe(connection), race: false }
    } catch (error) {
      if (race.signal.aborted) {
        return { race: true }
      }
      throw error
    } finally {
      race.end()
    }
  },

  /** Closes all connections to a peer, as an application does that is done with it. */
  async hangUp ({ peer }) {
    const signal = AbortSignal.timeout(WAIT_MS)
    await Promise.all(node.getConnections()
      .filter(connection => connection.remotePeer.toString() === peer)
      .map(connection => connection.close({ signal })))
  },

  async ping ({ address }) {
    return await node.services.ping.ping(multiaddr(address), { signal: AbortSignal.timeout(WAIT_MS) })
  },

  /** What identify told about a peer. */
  async identified ({ peer }) {
    const known = (await node.peerStore.all()).find(candidate => candidate.id.toString() === peer)
    const decoder = new TextDecoder()
    return known == null
      ? null
      : {
          protocols: known.protocols,
          addresses: known.addresses.map(({ multiaddr }) => multiaddr.toString()),
          agent: decoder.decode(known.metadata.get('AgentVersion')),
          signed: known.peerRecordEnvelope != null
        }
  },

  /** Opens the echo stream that `say` uses, on exactly this connection. */
  async openEcho ({ connection }) {
    const stream = await connectionById(connection).newStream(ECHO_PROTOCOL, {
      runOnLimitedConnection: true,
      signal: AbortSignal.timeout(WAIT_MS)
    })
    echo = new EchoStream(stream)
  },

  async say ({ text }) {
    return await echo.say(text)
  }
}

/** Runs one call; failures come back as text with their causes, because a rejected promise loses them on the way. */
globalThis.peer = async (name, argument) => {
  try {
    return { value: await calls[name](argument) ?? null }
  } catch (error) {
    const reasons = [error, ...(error.errors ?? []), ...(error.cause != null ? [error.cause] : [])]
    return { failure: reasons.map(reason => reason.stack ?? String(reason)).join('\n') }
  }
}
