// Keeps what is typed into the chat input in this browser, and offers prompts at a "/".
//
// data: tab, user, place (id of the conversation, or "new"), queued (texts that wait to be sent),
// taken ({id, place}: what was typed there is sent), asked (the last question, for a page that has
// sent nothing itself: a draft of the same words was sent), put ({id, text}: into the input with
// it), prompts ([{id, name, kind, prompt}]), words (texts on the screen).

const PREFIX = "papita_draft:"
const setValue = Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value").set

// before: what stood in the input at the last click elsewhere, which may be the one that leads to
// another conversation. What is typed after it, until that one is there, belongs to that one.
const state = {
  data: null, tab: null, key: null, restored: null, root: null, trigger: null, before: null,
}

// What was done already, also by an earlier place of this component on the page.
const done = new Set()

function isNew(id) {
  if (!id || done.has(id)) return false
  done.add(id)
  return true
}

const placeOf = (user, place) => `${PREFIX}${user}:${place}`

const area = () => document.querySelector('[data-testid="stChatInputTextArea"]')

function read(key) {
  try {
    return localStorage.getItem(key) ?? ""
  } catch {
    return ""
  }
}

function write(key, text) {
  try {
    if (text) localStorage.setItem(key, text)
    else localStorage.removeItem(key)
  } catch {
    // A browser that keeps nothing keeps no drafts.
  }
}

function type(box, text) {
  if (box.value === text) return
  setValue.call(box, text)
  box.dispatchEvent(new Event("input", { bubbles: true }))
}

function keep() {
  const box = area()
  if (!box || !state.key) return
  keepWith(state.key, state.data.queued, box.value)
}

function keepWith(key, queued, text) {
  write(key, [queued, text].filter(Boolean).join("\n\n"))
}

// What has been typed since one went to another conversation; the rest stays in the one before.
function typedSince(box, key, queued) {
  const { before } = state
  if (before === null || box.value === before) return ""
  keepWith(key, queued, before)
  return box.value.startsWith(before) ? box.value.slice(before.length) : box.value
}

// What is kept without what waits in the page's own queue.
function draftOf(key) {
  const text = read(key)
  const queued = state.data.queued
  if (!queued || !text.startsWith(queued)) return text
  return text.slice(queued.length).replace(/^\n\n/, "")
}

function whenThere(then, tries = 200) {
  const box = area()
  if (box) then(box)
  else if (tries) setTimeout(whenThere, 25, then, tries - 1)
}

function update(data) {
  // A page that knows nothing of what this one had queued finds it in the browser.
  const before = data.tab === state.tab ? state.key : null
  const key = placeOf(data.user, data.place)
  const taken = isNew(data.taken.id)
  const put = isNew(data.put.id)
  const queuedBefore = state.data?.queued
  const moved = key === before && data.queued !== queuedBefore
  state.data = data
  state.key = key
  state.tab = data.tab
  whenThere((box) => {
    if (taken) {
      // What has been typed since then belongs to where one is now.
      write(placeOf(data.user, data.taken.place), "")
    }
    if (before === null && data.asked) {
      for (const one of [key, placeOf(data.user, "new")]) {
        if (read(one).trim() === data.asked) write(one, "")
      }
    }
    if (key !== before || box !== state.restored) {
      const same = taken || before === null || key === before
      const typed = same ? box.value : typedSince(box, before, queuedBefore)
      const kept = draftOf(key)
      type(box, kept.endsWith(typed) ? kept : [kept, typed].filter(Boolean).join("\n\n"))
    }
    if (put) {
      type(box, [data.put.text, box.value].filter(Boolean).join("\n\n"))
      box.focus()
    }
    if (put || taken || moved || key !== before) keep()
    state.restored = box
    if (key !== before) state.before = null
    // Prompts that came after the "/".
    if (document.activeElement === box) suggest(box)
  })
}

function changedElsewhere(event) {
  const box = area()
  if (event.key !== state.key || !box || document.hasFocus()) return
  type(box, draftOf(state.key))
}

// --- the list of prompts over the input ---

let shown = []
let at = 0

function list() {
  return state.root?.querySelector("[role=listbox]")
}

function close() {
  shown = []
  const box = area()
  const menu = list()
  if (menu) menu.hidden = true
  box?.removeAttribute("aria-activedescendant")
  box?.removeAttribute("aria-expanded")
}

function suggest(box) {
  const found = /^\/([^\n]{0,60})$/.exec(box.value)
  const prompts = state.data?.prompts ?? []
  if (!found || !prompts.length || !list()) return close()
  const words = found[1].toLowerCase()
  shown = prompts.filter((one) => one.name.toLowerCase().includes(words)).slice(0, 8)
  if (!shown.length) return close()
  at = Math.min(at, shown.length - 1)
  draw(box)
}

function draw(box) {
  const menu = list()
  menu.replaceChildren(
    ...shown.map((one, number) => {
      const row = document.createElement("div")
      row.setAttribute("role", "option")
      row.setAttribute("aria-selected", String(number === at))
      row.setAttribute("aria-label", one.name)
      const name = document.createElement("span")
      name.textContent = one.name
      const kind = document.createElement("small")
      kind.textContent = one.kind === "assistant" ? state.data.words.assistant : state.data.words.prompt
      row.append(name, kind)
      row.onmousedown = (event) => {
        event.preventDefault()
        choose(number)
      }
      return row
    }),
  )
  menu.setAttribute("aria-label", state.data.words.list)
  const frame = (box.closest('[data-testid="stChatInput"]') ?? box).getBoundingClientRect()
  menu.hidden = false
  Object.assign(menu.style, {
    left: `${frame.left}px`,
    width: `${frame.width}px`,
    bottom: `${window.innerHeight - frame.top + 6}px`,
  })
  box.setAttribute("aria-expanded", "true")
}

function choose(number) {
  const one = shown[number]
  const box = area()
  close()
  if (!one || !box) return
  type(box, one.kind === "assistant" ? "" : one.prompt)
  box.focus()
  if (one.kind === "assistant") state.trigger?.("assistant", one.id)
}

function onInput(event) {
  if (event.target !== area()) return
  keep()
  if (event.isTrusted || event.target.value === "") {
    at = 0
    suggest(event.target)
  }
}

function onKey(event) {
  if (!shown.length || event.target !== area() || event.isComposing) return
  if (event.key === "ArrowDown") at = (at + 1) % shown.length
  else if (event.key === "ArrowUp") at = (at + shown.length - 1) % shown.length
  else if (event.key === "Enter" || event.key === "Tab") choose(at)
  else if (event.key === "Escape") close()
  else return
  event.preventDefault()
  event.stopPropagation()
  if (shown.length) draw(event.target)
}

function onBlur(event) {
  if (event.target === area()) close()
}

function onLeave(event) {
  const box = area()
  const shortcut = event.type !== "keydown" || event.ctrlKey || event.metaKey
  if (!box || !shortcut || box.closest('[data-testid="stChatInput"]')?.contains(event.target)) return
  state.before = box.value
}

const listeners = [
  [document, "click", onLeave],
  [document, "keydown", onLeave],
  [window, "popstate", onLeave],
  [document, "input", onInput],
  [document, "keydown", onKey],
  [document, "focusout", onBlur],
  [window, "storage", changedElsewhere],
]

// The latest call. Another one may come without the end of the one before, or ahead of it.
let mount = null

export default function ({ data, parentElement, setTriggerValue }) {
  const mine = {}
  mount = mine
  state.root = parentElement
  state.trigger = setTriggerValue
  for (const [where, name, what] of listeners) where.addEventListener(name, what, true)
  update(data)
  return () => {
    if (mount !== mine) return
    for (const [where, name, what] of listeners) where.removeEventListener(name, what, true)
    Object.assign(state, { key: null, restored: null, root: null })
  }
}
