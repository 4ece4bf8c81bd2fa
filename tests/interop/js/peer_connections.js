/*
 * Keeps every RTCPeerConnection of this page, so that a test can tell what its network did.
 *
 * It must be imported before @libp2p/webrtc, which takes the constructor from the global scope once, and it must never
 * change how a peer connection behaves.
 */

export const peerConnections = []

globalThis.RTCPeerConnection = class extends globalThis.RTCPeerConnection {
  constructor (...args) {
    super(...args)
    peerConnections.push(this)
  }
}
