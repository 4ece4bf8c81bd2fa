/*
 * Asks a relay why it gives no reservation: js-libp2p writes the reason into its log only. Circuit Relay v2, hop protocol.
 */

const HOP_PROTOCOL = '/libp2p/circuit/relay/0.2.0/hop'
const RESERVE = Uint8Array.of(2, 0x08, 0) // two bytes: field 1 (type) is RESERVE
const STATUS_TAG = 0x28 // field 5 (status), a varint
const STATUSES = { 100: 'OK', 200: 'RESERVATION_REFUSED', 201: 'RESOURCE_LIMIT_EXCEEDED', 202: 'PERMISSION_DENIED' }
const WAIT_MS = 3_000

/** The status that the relay answers, as its name or number; undefined when it does not answer. */
export async function askForStatus (connection) {
  const signal = AbortSignal.timeout(WAIT_MS)
  try {
    const stream = await connection.newStream(HOP_PROTOCOL, { signal })
    const answer = new Promise((resolve, reject) => {
      stream.addEventListener('message', ({ data }) => { resolve(data.subarray()) }, { once: true })
      for (const [target, end] of [[stream, 'close'], [signal, 'abort']]) {
        target.addEventListener(end, () => { reject(new Error('no answer')) }, { once: true })
      }
    })
    stream.send(RESERVE)
    const status = statusOf(await answer)
    await stream.close({ signal })
    return STATUSES[status] ?? status
  } catch {
    return undefined
  }
}

/** A refusal is short: its length, its type and its status, which stands last. */
function statusOf (bytes) {
  const at = bytes.lastIndexOf(STATUS_TAG)
  return at < 0 ? undefined : (bytes[at + 1] & 0x7f) | (bytes[at + 2] << 7)
}
