// Keys that do what a click elsewhere on the page does, and "?" for the list of them.
const FIELD = "input, textarea, select, [contenteditable=true]"

// `Stop` is on the page at any time, and hidden while there is nothing to stop.
function click(selector) {
  const button = document.querySelector(selector)
  if (button?.checkVisibility()) button.click()
}
const focus = selector => document.querySelector(selector)?.focus()

function toggleSidebar() {
  const open = document.querySelector('[data-testid="stSidebar"][data-collapsed="false"]')
  const button = open
    ? open.querySelector('[data-testid="stSidebarCollapseButton"] button')
    : document.querySelector('[data-testid="stExpandSidebarButton"]')
  button?.click()
}

const ACTS = {
  "ctrl+k": () => focus(".st-key-al_chat_search input"),
  "ctrl+.": () => click(".st-key-al_chat_stop button"),
  "ctrl+b": toggleSidebar,
  "shift+escape": () => focus('[data-testid="stChatInputTextArea"]'),
}

function named(event) {
  const parts = []
  if (event.ctrlKey || event.metaKey) parts.push("ctrl")
  if (event.altKey) return ""
  if (event.shiftKey && event.key.length > 1) parts.push("shift")
  return [...parts, event.key.toLowerCase()].join("+")
}

// The latest call. Another one may come without the end of the one before, or ahead of it.
let mount = null

function onKey(event) {
  if (event.isComposing || document.querySelector('[role="dialog"]')) return
  const name = named(event)
  const typing = event.composedPath()[0]?.matches?.(FIELD)
  if (name === "?" && !typing) mount.send("list", true)
  else if (ACTS[name]) ACTS[name]()
  else return
  event.preventDefault()
}

export default function ({ setTriggerValue }) {
  const mine = { send: setTriggerValue }
  mount = mine
  document.addEventListener("keydown", onKey)
  return () => {
    if (mount !== mine) return
    mount = null
    document.removeEventListener("keydown", onKey)
  }
}
