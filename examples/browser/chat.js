/*
 * Texts between two peers, each a line in UTF-8. It must never trust what comes: a line that does not end is cut off.
 */

export const CHAT_PROTOCOL = '/frost-relay/example/chat/1.0.0'

const LONGEST_LINE = 4_000 // characters; the page takes 2,000 to be sent

/** The conversation of two: `said` is told each text that comes, `ended` when the other one is gone. */
export class Chat {
  #streams = []

  constructor ({ said, ended }) {
    this.said = said
    this.ended = ended
  }

  /** Reads from a stream, and speaks on it: more than one when both have called at the same time. */
  take (stream) {
    this.#streams.push(stream)
    const decoder = new TextDecoder()
    let line = ''
    stream.addEventListener('message', ({ data }) => {
      const lines = (line + decoder.decode(data.subarray(), { stream: true })).split('\n')
      line = lines.pop()
      lines.filter(text => text !== '').forEach(text => this.said(text))
      if (line.length > LONGEST_LINE) {
        stream.abort(new Error('a line that does not end'))
      }
    })
    // The other one is gone when it has said its last, and when its browser no longer answers.
    for (const end of ['remoteCloseWrite', 'close']) {
      stream.addEventListener(end, () => { this.#drop(stream) }, { once: true })
    }
  }

  say (text) {
    this.#streams.at(-1).send(new TextEncoder().encode(`${text.replaceAll('\n', ' ')}\n`))
  }

  #drop (stream) {
    if (this.#streams.includes(stream)) {
      this.#streams = this.#streams.filter(other => other !== stream)
      if (this.#streams.length === 0) {
        this.ended()
      }
    }
  }
}
