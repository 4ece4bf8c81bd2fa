/*
 * The page: what it shows, and what is typed and pressed in it. It knows nothing of libp2p. What others have said is shown
 * as text and never as markup.
 */

import { encodeQR } from 'qr'

const SAID = { me: 'You', other: 'The other one' }

function find (id) {
  return document.getElementById(id)
}

/** 'starting', 'waiting', 'calling', 'talking' or 'ended'; style.css decides what is to be seen then. */
function stage (name) {
  document.body.dataset.stage = name
}

export function showStep (step, state, ms) {
  const row = find(`step-${step}`)
  row.dataset.state = state
  row.querySelector('.time').textContent = ms == null ? '' : `${ms} ms`
}

/** What went wrong; with `again` there is a button that tries once more. */
export function trouble (words, again) {
  find('trouble-text').textContent = words
  find('trouble').hidden = false
  find('again').hidden = again == null
  find('again').onclick = () => {
    fine()
    again()
  }
  if (document.body.dataset.stage === 'calling') {
    stage('waiting')
  }
}

export function fine () {
  find('trouble').hidden = true
}

/** There is an address to give away: as a link, which is the page with the address in its fragment, and as its QR code. */
export function reachable (address) {
  const link = `${location.origin}${location.pathname}#${address}`
  find('address').value = link
  find('qr').src = `data:image/svg+xml,${encodeURIComponent(encodeQR(link, 'svg', { ecc: 'low', border: 3 }))}`
  find('only-here').hidden = !['localhost', '127.0.0.1', '[::1]'].includes(location.hostname)
  if (document.body.dataset.stage === 'starting') {
    stage('waiting')
  }
}

export function calling () {
  fine()
  stage('calling')
}

export function talking (chat) {
  stage('talking')
  find('chat').onsubmit = event => {
    event.preventDefault()
    const text = find('text').value.trim()
    if (text !== '') {
      chat.say(text)
      line('me', text)
    }
    find('text').value = ''
  }
  find('text').focus()
}

export function said (text) {
  line('other', text)
}

export function ended () {
  stage('ended')
}

function line (who, text) {
  const item = document.createElement('li')
  item.className = who
  const name = document.createElement('span')
  name.className = 'who'
  name.textContent = SAID[who]
  item.append(name, text)
  find('lines').append(item)
  item.scrollIntoView({ block: 'nearest' })
}

/** What is pressed; `call` is given what was pasted. */
export function listen (call) {
  find('call').onsubmit = event => {
    event.preventDefault()
    call(find('other').value)
  }
  find('copy').onclick = async () => {
    await navigator.clipboard.writeText(find('address').value)
    find('copy').textContent = 'Copied'
  }
  find('address').onfocus = () => { find('address').select() }
  find('share').hidden = navigator.share == null
  find('share').onclick = () => { navigator.share({ url: find('address').value }).catch(() => {}) } // closed again
  find('restart').onclick = () => { location.replace(location.pathname) }
}
