// A button that has the browser ask for a passkey, or make one.
//
// data: number (of the question), kind ("get" or "create"), options (for navigator.credentials, with
// base64url for bytes), seconds (for so long it may be begun), origin (where passkeys work), primary,
// choice (the key of a checkbox of the page, or nothing), words (texts on the screen).
// It sends "answer" once for each question, and "fresh" where a question has grown too old: then the
// next one is put to the browser as soon as it comes, since the button is pressed already.

const ANSWERED = new Set()
const instances = new WeakMap()
const PATIENCE = 20_000

const bytes = text => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), c => c.charCodeAt(0))

function text(buffer) {
  if (!buffer) return undefined
  let raw = ""
  for (const byte of new Uint8Array(buffer)) raw += String.fromCharCode(byte)
  return btoa(raw).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "")
}

const chosen = key => !!key && !!document.querySelector(`.st-key-${key} input`)?.checked

const known = list => (list ?? []).map(item => ({ ...item, id: bytes(item.id) }))

async function ask({ kind, options }, signal) {
  const challenge = bytes(options.challenge)
  if (kind === "create") {
    const user = { ...options.user, id: bytes(options.user.id) }
    const excludeCredentials = known(options.excludeCredentials)
    return navigator.credentials.create({
      publicKey: { ...options, challenge, user, excludeCredentials },
      signal,
    })
  }
  const allowCredentials = known(options.allowCredentials)
  return navigator.credentials.get({ publicKey: { ...options, challenge, allowCredentials }, signal })
}

// Not toJSON, which extensions that stand in for the browser leave out.
function spelled({ id, rawId, type, authenticatorAttachment, response }) {
  const parts = { clientDataJSON: text(response.clientDataJSON) }
  if (response.attestationObject) {
    parts.attestationObject = text(response.attestationObject)
    parts.transports = response.getTransports?.() ?? []
  } else {
    parts.authenticatorData = text(response.authenticatorData)
    parts.signature = text(response.signature)
    parts.userHandle = text(response.userHandle)
  }
  return JSON.stringify({ id, rawId: text(rawId), type, authenticatorAttachment, response: parts })
}

function problem(error, data, seconds) {
  const { words, options } = data
  if (error.name === "InvalidStateError") return words.known
  if (error.name === "NotSupportedError") return words.unsupported
  if (error.name === "SecurityError") return words.elsewhere
  if (error.name !== "NotAllowedError") return words.failed
  return seconds * 1000 >= options.timeout - 1000 ? words.timeout : words.cancelled
}

function make(root) {
  const one = {
    button: root.querySelector("button"),
    label: root.querySelector("span"),
    note: root.querySelector("p"),
    since: new Map(),
    busy: false,
    wanted: false,
    waits: null,
    abort: null,
    data: null,
    send: null,
  }

  function say(words) {
    one.note.textContent = words
    one.note.hidden = !words
  }

  function rest(words = "") {
    clearTimeout(one.waits)
    one.busy = one.wanted = false
    say(words)
    draw()
  }

  function wait() {
    clearTimeout(one.waits)
    one.waits = setTimeout(() => rest(one.data.words.failed), PATIENCE)
  }

  function draw() {
    const { words, origin, primary } = one.data
    const here = location.origin === origin
    const able = here && !!(window.PublicKeyCredential && navigator.credentials)
    one.label.textContent = one.busy ? words.waiting : words.label
    one.button.setAttribute("aria-busy", String(one.busy))
    one.button.classList.toggle("primary", !!primary)
    one.button.disabled = !able
    if (!able) say(here ? words.unsupported : words.elsewhere)
  }

  async function run() {
    const data = one.data
    one.wanted = false
    const began = performance.now()
    one.abort = new AbortController()
    try {
      const found = await ask(data, one.abort.signal)
      ANSWERED.add(data.number)
      wait()
      one.send("answer", { number: data.number, text: spelled(found), chosen: chosen(data.choice) })
    } catch (error) {
      if (error.name !== "AbortError") rest(problem(error, data, (performance.now() - began) / 1000))
    }
  }

  const usable = () =>
    !ANSWERED.has(one.data.number) &&
    performance.now() - one.since.get(one.data.number) < one.data.seconds * 1000

  function press() {
    if (one.busy) return
    one.busy = true
    say("")
    draw()
    if (usable()) run()
    else {
      one.wanted = true
      wait()
      one.send("fresh", one.data.number)
    }
  }

  one.button.onclick = press
  one.take = data => {
    const other = one.data?.number !== data.number
    one.data = data
    if (!one.since.has(data.number)) one.since.set(data.number, performance.now())
    if (one.wanted && usable()) {
      clearTimeout(one.waits)
      run()
    } else if (other && one.busy) rest()
    draw()
  }
  one.end = () => {
    clearTimeout(one.waits)
    one.abort?.abort()
  }
  return one
}

export default function ({ data, parentElement, setTriggerValue }) {
  const one = instances.get(parentElement) ?? make(parentElement)
  instances.set(parentElement, one)
  one.send = setTriggerValue
  one.take(data)
  return one.end
}
