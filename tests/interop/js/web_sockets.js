/*
 * Keeps every WebSocket of this page, so that a test can tell which are open; a closing one is not.
 *
 * It must be imported before @libp2p/websockets is used, and it must never change how a WebSocket behaves.
 */

const webSockets = []

globalThis.WebSocket = class extends globalThis.WebSocket {
  constructor (...args) {
    super(...args)
    webSockets.push(this)
  }
}

export function webSocketsOpen () {
  return webSockets.filter(socket => socket.readyState === WebSocket.OPEN).length
}
