/*
 * Two browsers meet: reserve at a relay, call or be called, go over to WebRTC, leave the relay, and talk on without it.
 *
 * It knows libp2p and nothing of the page, which it tells what happens: `reachable(address)`, `calling()`, `talking(chat)`,
 * `said(text)`, `ended()`, `trouble(words, again)`, where `again` tries once more, and `fine()` when a trouble is over.
 */

import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { Chat, CHAT_PROTOCOL } from './chat.js'
import { askForStatus } from './reservation.js'
import { call, endSignalling, stayWith, walletSettings, whenReachable } from './wallet.js'
import { failedCall, noRelay, noReservation, NOT_AN_ADDRESS, OWN_ADDRESS, Trouble } from './words.js'

const ANSWER_MS = 3_000
const STREAM_MS = 10_000

export class Meeting {
  #node
  #relay
  #leave
  #left = false
  #calling = false
  #chat

  constructor (relay, steps, page) {
    this.#relay = multiaddr(relay)
    this.steps = steps
    this.page = page
  }

  /** Goes to the relay, and stays with it until there is somebody to talk to. */
  async start (iceServers) {
    // The relay may be on this machine or beside it: `insecure` allows ws:// and private addresses.
    this.#node = await createLibp2p(walletSettings({ iceServers, insecure: true }))
    await this.#node.handle(CHAT_PROTOCOL, (stream, connection) => this.#talk(stream, connection))
    this.#node.addEventListener('connection:open', ({ detail }) => { this.#opened(detail) })
    this.#node.addEventListener('peer:disconnect', ({ detail }) => { this.#disconnected(detail) })
    this.steps.begin('relay')
    this.#complainUnlessConnected()
    this.#leave = stayWith(this.#node, this.#relay)
  }

  /** Calls the one whose address or link this is. */
  async call (text) {
    if (this.#calling || this.#chat != null) {
      return
    }
    this.#calling = true
    this.page.calling()
    this.steps.reset('call')
    this.steps.begin('call')
    let reached = false
    const circuit = ({ detail }) => { reached ||= detail.limits != null && detail.direction === 'outbound' }
    this.#node.addEventListener('connection:open', circuit)
    try {
      const connection = await call(this.#node, this.#addressIn(text))
      const stream = await connection.newStream(CHAT_PROTOCOL, { signal: AbortSignal.timeout(STREAM_MS) })
      stream.send(Uint8Array.of(0x0a)) // the name of the protocol goes out with the first bytes: an empty line
      await this.#talk(stream, connection)
    } catch (error) {
      console.warn('the call failed:', error)
      this.steps.fail()
      const hopeless = error instanceof Trouble
      this.page.trouble(failedCall(error, reached), hopeless ? undefined : () => { this.call(text) })
    } finally {
      this.#calling = false
      this.#node.removeEventListener('connection:open', circuit)
    }
  }

  /** Says goodbye to everybody: the page is about to go. */
  async stop () {
    await this.#node?.stop()
  }

  #addressIn (text) {
    let address
    try {
      address = multiaddr(text.trim().split('#').at(-1))
    } catch {
      throw new Trouble(NOT_AN_ADDRESS)
    }
    const names = address.getComponents().map(({ name }) => name)
    if (!names.includes('p2p-circuit') || !names.includes('webrtc') || names.at(-1) !== 'p2p') {
      throw new Trouble(NOT_AN_ADDRESS)
    }
    if (peerIn(address) === this.#node.peerId.toString()) {
      throw new Trouble(OWN_ADDRESS)
    }
    return address
  }

  #opened (connection) {
    if (connection.remotePeer.toString() === peerIn(this.#relay)) {
      this.steps.done('relay')
      this.page.fine()
      this.#reserve(connection)
    } else if (connection.limits != null && this.#chat == null) {
      // Nobody here has waited for a call that comes: it begins with the first byte of the circuit.
      this.steps.done('call', this.#calling ? undefined : connection.timeline.open - performance.timeOrigin)
      this.steps.begin('direct')
    }
  }

  #disconnected (peer) {
    if (peer.toString() === peerIn(this.#relay) && !this.#left) {
      this.steps.reset('relay')
      this.steps.begin('relay')
      this.#complainUnlessConnected()
    } else if (!this.#calling && this.#chat == null) {
      this.steps.reset('call') // a call that came, and came to nothing
    }
  }

  /** js-libp2p reserves by itself; this waits for it, and finds out why when nothing comes of it. */
  async #reserve (connection) {
    this.steps.begin('reserve')
    let addresses
    try {
      addresses = (await whenReachable(this.#node, AbortSignal.timeout(ANSWER_MS))).map(String)
    } catch {
      await this.#explain(connection)
      return
    }
    this.steps.done('reserve')
    // A relay with several addresses names them all: the one that has worked here is the best guess for the other one.
    this.page.reachable(addresses.find(address => address.startsWith(this.#relay.toString())) ?? addresses[0])
  }

  async #explain (connection) {
    if (connection.status !== 'open' || this.#left) {
      return
    }
    const status = await askForStatus(connection)
    if (status === 'OK') {
      this.#reserve(connection) // it is only slow
    } else {
      this.steps.fail()
      // js-libp2p asks a relay once a connection; stayWith comes with the next one.
      this.page.trouble(noReservation(status), () => { this.#node.hangUp(connection.remotePeer) })
    }
  }

  /** There is a direct connection with a stream: the relay has done its work. */
  async #talk (stream, connection) {
    if (this.#chat != null) {
      this.#chat.take(stream)
      return
    }
    this.#chat = new Chat({ said: text => { this.page.said(text) }, ended: () => { this.page.ended() } })
    this.#chat.take(stream)
    this.steps.done('direct')
    this.page.fine()
    this.page.talking(this.#chat)
    this.steps.begin('leave')
    this.#left = true
    await endSignalling(this.#node, connection.remotePeer)
    await this.#leave()
    this.steps.done('leave')
  }

  #complainUnlessConnected () {
    setTimeout(() => {
      const connected = this.#node.getConnections().some(({ remotePeer }) => remotePeer.toString() === peerIn(this.#relay))
      if (!connected && !this.#left) {
        this.page.trouble(noRelay(this.#relay.toString().split('/p2p/')[0]))
      }
    }, ANSWER_MS)
  }
}

/** The peer that a whole address leads to. */
function peerIn (address) {
  return address.getComponents().findLast(({ name }) => name === 'p2p').value
}
