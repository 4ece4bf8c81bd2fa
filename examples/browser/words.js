/*
 * What went wrong, in words for somebody who has never heard of libp2p: what is the matter, and what to do now.
 */

import { refusal } from './wallet.js'

/** What the page itself finds wrong. */
export class Trouble extends Error {}

export const INSECURE = 'Your browser has switched cryptography off, because this page came over plain http from another ' +
  'machine. Open it over https, or as localhost on the machine that serves it.'
export const NO_WEBRTC = 'Your browser has WebRTC switched off, and without it there is no direct connection.'
export const NO_SETTINGS = 'The page does not know its relay. Is “make example” still running? Then load the page again.'
export const NOT_AN_ADDRESS = 'This is not an address that can be called. Copy the whole link from the other page.'
export const OWN_ADDRESS = 'This is your own address. Give it to the other one, or paste theirs here.'

const REFUSED_RESERVATIONS = {
  RESERVATION_REFUSED: 'The relay is full, or this machine has asked too often. Try again in a minute.',
  PERMISSION_DENIED: 'The relay does not let you in: its operator has decided so.'
}

const REFUSED_CALLS = {
  NO_RESERVATION: 'The other one is not there now. Is their page still open, and connected to the relay? Ask for a new link.',
  CONNECTION_FAILED: 'The other one is just leaving, or does not answer. Call again in a moment.',
  RESOURCE_LIMIT_EXCEEDED: 'The relay has too many calls at once. Call again in a few seconds.',
  PERMISSION_DENIED: 'The relay does not let you call this one.'
}

export function noRelay (relay) {
  return `The relay does not answer at ${relay}. Is it running, and does a firewall let you through? The page keeps trying.`
}

/** Why there is no reservation; `status` is the relay's answer, undefined when it has given none. */
export function noReservation (status) {
  return REFUSED_RESERVATIONS[status] ??
    `The relay gave you no place (${status ?? 'no answer'}). Try again; if it stays so, look at the relay’s log.`
}

/** Why a call has failed; `reached`: the other one has answered through the relay. */
export function failedCall (error, reached) {
  if (error instanceof Trouble) {
    return error.message
  }
  const status = refusal(error)
  if (status != null) {
    return REFUSED_CALLS[status] ?? `The relay refused the call (${status}).`
  }
  return reached
    ? 'You reached each other through the relay, but WebRTC found no direct way. A firewall or VPN may be in between; ' +
      'in different networks both need a STUN server.'
    : 'The call did not come through. Is the link from a page that is still open? Call again, or ask for a new link.'
}
