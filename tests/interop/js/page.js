/*
 * A js-libp2p peer in a browser page, driven from the tests through `globalThis.peer`.
 *
 * It is what a wallet would write: published packages, the settings of examples/browser/wallet.js, nothing of the relay's own.
 * Every function takes and returns plain JSON, and every wait has an end. It must never repair what goes wrong: a test decides what a failure means.
 */

import { peerConnections } from './peer_connections.js'
import { webSocketsOpen } from './web_sockets.js'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { dialAtOnce } from './crowd.js'
import { webSocketsWithToken } from './token.js'
import { endSignalling, startWallet, walletSettings, whenReachable } from './wallet.js'

const ECHO_PROTOCOL = '/interop/echo/1.0.0'
const HOP_PROTOCOL = '/libp2p/circuit/relay/0.2.0/hop'
const WAIT_MS = 15_000
// Between two pages of one machine the rest of a dial takes milliseconds once ICE has connected.
const RACE_AFTER_MS = 2_000

let node
let leave
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

/** A wallet's settings as they stand in wallet.js, for loopback: plain WebSocket, and no STUN server is asked. */
function onLoopback (listen, connectionManager) {
  const settings = walletSettings({ listen, iceServers: [], insecure: true })
  return connectionManager == null ? settings : { ...settings, connectionManager }
}

const calls = {
  /**
   * Starts the node; returns once it listens, so with a relay's circuit address once it holds a reservation.
   * `connectionManager` replaces what wallet.js says of it: {} is what js-libp2p does by itself.
   */
  async start ({ listen = [], connectionManager, runOnLimitedConnection = true }) {
    node = await createLibp2p(onLoopback(listen, connectionManager))
    await node.handle(ECHO_PROTOCOL, answerEcho, { runOnLimitedConnection })
    return { peer: node.peerId.toString(), addresses: node.getMultiaddrs().map(String) }
  },

  /** Starts the node as wallet.js does, which then does all else by itself. */
  async startWallet ({ relay, token }) {
    const webSocket = token == null ? undefined : webSocketsWithToken(relay.split('/').at(-1), token)
    ;({ node, leave } = await startWallet(multiaddr(relay), { iceServers: [], insecure: true, webSocket }))
    await node.handle(ECHO_PROTOCOL, answerEcho, { runOnLimitedConnection: true })
    return node.peerId.toString()
  },

  /** The addresses at which the node can be called, once it can. */
  async reachableAt () {
    return (await whenReachable(node, AbortSignal.timeout(WAIT_MS))).map(String)
  },

  async endSignalling ({ connection }) {
    await endSignalling(node, connectionById(connection).remotePeer)
  },

  /** What startWallet gave to leave the relay with. */
  async leaveRelay () {
    await leave()
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

  /** Opens one more connection to a peer that there is one to already. */
  async dialAnother ({ address }) {
    return describe(await node.dial(multiaddr(address), { force: true, signal: AbortSignal.timeout(WAIT_MS) }))
  },

  /** Dials the same address twice at the same time; returns both connections, or {race: true}. */
  async dialTwice ({ address }) {
    const both = await Promise.all([calls.dial({ address }), calls.dial({ address })])
    return { race: both.some(dialled => dialled.race), both }
  },

  /** As many nodes as asked for dial one address at once; returns one text a node, empty where it succeeded. */
  async dialAtOnce ({ relay, address, count }) {
    return await dialAtOnce(() => createLibp2p(onLoopback([])), multiaddr(relay), multiaddr(address), count)
  },

  /** Asks for a reservation over exactly this connection; returns once the relay has answered. */
  async reserveOver ({ connection }) {
    const signal = AbortSignal.timeout(WAIT_MS)
    const stream = await connectionById(connection).newStream(HOP_PROTOCOL, { signal })
    const answered = nextEvent(stream, ['message', 'close'], signal)
    stream.send(Uint8Array.of(2, 8, 0)) // two bytes: field 1, type RESERVE
    await answered
  },

  /** Drops a connection; returns how many WebSockets of the page stay open all the same. */
  async abort ({ connection }) {
    connectionById(connection).abort(new Error('dropped by the test'))
    return webSocketsOpen()
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
  async openEcho ({ connection, runOnLimitedConnection = true }) {
    const stream = await connectionById(connection).newStream(ECHO_PROTOCOL, {
      runOnLimitedConnection,
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
