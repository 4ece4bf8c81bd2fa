/*
 * Several js-libp2p nodes in one page, which call one peer at the same moment, as the members of a group do.
 *
 * Every node is connected to the relay before the first one calls, and all of them are stopped before the answer goes out.
 */

const WAIT_MS = 15_000

/** Returns one text a node: empty where its call was taken, else why it was not. */
export async function dialAtOnce (createNode, relay, address, count) {
  const nodes = []
  try {
    for (let made = 0; made < count; made++) {
      nodes.push(await createNode())
    }
    const signal = AbortSignal.timeout(WAIT_MS)
    await Promise.all(nodes.map(async node => await node.dial(relay, { signal })))
    const calls = await Promise.allSettled(nodes.map(async node => await node.dial(address, { signal })))
    return calls.map(call => call.status === 'fulfilled' ? '' : String(call.reason))
  } finally {
    await Promise.all(nodes.map(async node => { await node.stop() }))
  }
}
