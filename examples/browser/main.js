/*
 * Starts the page: asks who the relay is, and calls whoever the link names.
 */

import { Meeting } from './meeting.js'
import { Steps } from './steps.js'
import * as view from './view.js'
import { INSECURE, NO_SETTINGS, NO_WEBRTC } from './words.js'

/** The relay to use, from those that serve.py names: at best at the host where this page came from. */
async function askForRelay () {
  const { relays, iceServers } = await (await fetch('relay.json')).json()
  return { iceServers, relay: relays.find(address => address.split('/')[2] === location.hostname) ?? relays[0] }
}

async function start () {
  if (!isSecureContext) {
    view.trouble(INSECURE)
    return
  }
  if (globalThis.RTCPeerConnection == null) {
    view.trouble(NO_WEBRTC)
    return
  }
  let settings
  try {
    settings = await askForRelay()
  } catch {
    view.trouble(NO_SETTINGS, () => { location.reload() })
    return
  }
  let invited = location.hash.slice(1)
  const meeting = new Meeting(settings.relay, new Steps(view.showStep), {
    ...view,
    reachable (address) {
      view.reachable(address)
      if (invited !== '') {
        meeting.call(invited)
        invited = '' // once: a reservation that is renewed is no reason to call again
      }
    }
  })
  view.listen(text => meeting.call(text))
  addEventListener('pagehide', () => { meeting.stop() })
  await meeting.start(settings.iceServers)
}

addEventListener('hashchange', () => { location.reload() }) // a link of another one, opened in this tab
addEventListener('pageshow', ({ persisted }) => { persisted && location.reload() }) // its node has been stopped
start()
