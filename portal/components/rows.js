// Beside the list of conversations: gives each row a button with a menu, asks for more of them where
// the list has been read to its end, and closes the sidebar where it covers the page and one has
// chosen what to read there.
//
// data: words (texts on the screen, in those of the menu the icon first), pinned (ids), archived
// (whether all that are listed are).

const KEY = "st-key-al_chat_open_"
const ROW = `[class*="${KEY}"]`
const FURTHER = ".st-key-al_chat_show_more button"
const OPENS = `${ROW} button:not(.al-chat-more), [class*="st-key-al_chat_hit_"] button, .st-key-al_chat_new button`
const SHOWN = `${ROW}:hover, ${ROW}:has(:focus-visible), ${ROW}:has([aria-expanded="true"])`
const STYLE = `
  ${ROW} { position: relative; width: 100%; }
  ${ROW} > :not(.al-chat-more) { width: fit-content; max-width: 100%; }
  :is(${SHOWN}) > :not(.al-chat-more) { padding-right: 32px; }
  .al-chat-more {
    position: absolute; right: 0; top: 50%; translate: 0 -50%; width: 30px; height: 30px; opacity: 0;
    display: inline-flex; align-items: center; justify-content: center; padding: 0; border: 0;
    border-radius: var(--st-button-radius); background: none; color: var(--st-text-color); cursor: pointer;
  }
  :is(${SHOWN}) > .al-chat-more { opacity: 1; }
  @media (hover: none) {
    ${ROW} > :not(.al-chat-more) { padding-right: 32px; }
    .al-chat-more { opacity: 1; }
  }
  .al-chat-more:hover, .al-chat-more[aria-expanded="true"] {
    background: var(--st-secondary-background-color);
  }
  .al-chat-more:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: -1px; }
  .al-chat-row-menu {
    position: fixed; z-index: 1000050; min-width: 180px; padding: 4px; box-sizing: border-box;
    border: 1px solid var(--st-border-color); border-radius: var(--st-base-radius);
    background: var(--st-background-color); color: var(--st-text-color); font-family: var(--st-font);
    box-shadow: 0 4px 16px rgb(0 0 0 / 16%);
  }
  .al-chat-row-menu button {
    display: flex; align-items: center; gap: 8px; width: 100%; min-height: 36px; padding: 4px 10px;
    border: 0; border-radius: var(--st-button-radius); background: none; color: inherit; font: inherit;
    font-size: 0.875rem; text-align: start; cursor: pointer;
  }
  .al-chat-row-menu button:hover, .al-chat-row-menu button:focus {
    background: var(--st-secondary-background-color); outline: none;
  }
  .al-chat-row-menu button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: -2px; }
  .al-chat-more span, .al-chat-row-menu span {
    font-family: "Material Symbols Rounded"; font-size: 18px; line-height: 1; width: 18px; flex: none;
    overflow: hidden; white-space: nowrap; font-feature-settings: "liga"; user-select: none;
  }
`
const SHEET = new CSSStyleSheet()
SHEET.replaceSync(STYLE)
// Streamlit gives its colours to components alone, and these are not in one.
const THEME = new CSSStyleSheet()
const NAMES = [...new Set(STYLE.match(/--st-[a-z-]+/g))]

// opener: the button whose menu is open. further: the button below the list that shows more of it;
// asked: how many rows there were when it was last clicked here. back: the row whose menu was used,
// until the next key or click: it may come to stand elsewhere, and the focus with it.
const state = { data: null, send: null, menu: null, opener: null, further: null, asked: 0, back: null }

const rows = () => [...document.querySelectorAll(ROW)]
const moreOf = row => row.querySelector(":scope > .al-chat-more")
const titleOf = row => row.querySelector("button p")?.textContent ?? ""

function idOf(row) {
  const name = [...row.classList].find(one => one.startsWith(KEY)) ?? ""
  // One that is listed in its folder has a key of its own there.
  return name.slice(KEY.length).replace(/^f_/, "")
}

function dress(component) {
  const given = getComputedStyle(component)
  const rules = NAMES.map(name => `${name}: ${given.getPropertyValue(name)};`)
  THEME.replaceSync(`.al-chat-more, .al-chat-row-menu { ${rules.join(" ")} }`)
}

function icon(name) {
  const made = document.createElement("span")
  made.setAttribute("aria-hidden", "true")
  made.textContent = name
  return made
}

// Rows come and go, and one becomes another.
function fill() {
  for (const row of rows()) {
    let more = moreOf(row)
    if (!more) {
      more = document.createElement("button")
      more.type = "button"
      more.className = "al-chat-more"
      more.setAttribute("aria-haspopup", "menu")
      more.setAttribute("aria-expanded", "false")
      more.append(icon("more_horiz"))
      more.onclick = () => (state.opener === more ? close() : open(more))
      more.onkeydown = onMoreKey
      row.append(more)
    }
    const label = state.data.words.options.replace("{title}", titleOf(row))
    if (more.title !== label) {
      more.title = label
      more.setAttribute("aria-label", label)
    }
  }
  if (state.opener && !state.opener.isConnected) close()
  watchFurther(document.querySelector(FURTHER))
  bringFocusBack()
}

function watchFurther(button) {
  if (button === state.further) return
  reached.disconnect()
  state.further = button
  if (button) reached.observe(button)
}

// Once for the rows there are: if no more came, it is the user's to try again.
const reached = new IntersectionObserver(entries => {
  const count = rows().length
  if (!entries.some(one => one.isIntersecting) || count === state.asked) return
  state.asked = count
  state.further?.click()
})

function bringFocusBack() {
  const { back } = state
  const at = document.activeElement
  if (!back || !(at === document.body || at?.matches(".al-chat-more"))) return
  const there = rows()
  const row = there.find(one => idOf(one) === back.id)
  if (!row) state.back = null
  moreOf(row ?? there[Math.min(back.at, there.length - 1)] ?? document.body)?.focus()
}

function onMoreKey(event) {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return
  event.preventDefault()
  open(event.currentTarget, event.key === "ArrowUp" ? -1 : 0)
}

function items(id) {
  const { pinned, archived } = state.data
  return [
    "rename",
    pinned.includes(id) ? "unpin" : "pin",
    archived ? "unarchive" : "archive",
    "delete",
  ]
}

function open(more, first = 0) {
  close()
  const row = more.parentElement
  const id = idOf(row)
  const menu = document.createElement("div")
  menu.className = "al-chat-row-menu"
  menu.setAttribute("role", "menu")
  menu.setAttribute("aria-label", more.title)
  for (const name of items(id)) {
    const [, symbol, words] = /^:material\/(\w+): (.*)$/.exec(state.data.words[name])
    const item = document.createElement("button")
    item.type = "button"
    item.tabIndex = -1
    item.setAttribute("role", "menuitem")
    item.append(icon(symbol), words)
    item.onclick = () => choose(name, id, rows().indexOf(row))
    menu.append(item)
  }
  menu.onkeydown = onMenuKey
  menu.onfocusout = event => {
    if (!menu.contains(event.relatedTarget) && event.relatedTarget !== more) close()
  }
  document.body.append(menu)
  const frame = more.getBoundingClientRect()
  const { offsetWidth: width, offsetHeight: height } = menu
  const below = frame.bottom + 4 + height <= window.innerHeight
  menu.style.left = `${Math.max(8, Math.min(frame.left, window.innerWidth - width - 8))}px`
  menu.style.top = `${Math.max(8, below ? frame.bottom + 4 : frame.top - 4 - height)}px`
  more.setAttribute("aria-expanded", "true")
  Object.assign(state, { menu, opener: more })
  menu.children[(first + menu.children.length) % menu.children.length].focus()
}

function close({ focus = false } = {}) {
  const { menu, opener } = state
  Object.assign(state, { menu: null, opener: null })
  opener?.setAttribute("aria-expanded", "false")
  if (focus) opener?.focus()
  menu?.remove()
}

// As in every menu (ARIA Authoring Practices, menu button).
function onMenuKey(event) {
  const all = [...state.menu.children]
  const at = all.indexOf(document.activeElement)
  const to = {
    ArrowDown: (at + 1) % all.length,
    ArrowUp: (at + all.length - 1) % all.length,
    Home: 0,
    End: all.length - 1,
  }[event.key]
  if (to !== undefined) all[to].focus()
  else if (event.key === "Escape" || event.key === "Tab") close({ focus: true })
  else return
  // A Tab goes on from the button.
  if (event.key !== "Tab") event.preventDefault()
  event.stopPropagation()
}

function choose(name, id, at) {
  close({ focus: true })
  state.back = { id, at }
  // The way to take it back is on the page.
  if (name === "delete") uncover()
  state.send({ name, conversation: id })
}

// --- the sidebar over a narrow page ---

function uncover() {
  const sidebar = document.querySelector('[data-testid="stSidebar"][data-collapsed="false"]')
  const input = document.querySelector('[data-testid="stChatInput"]')
  if (!sidebar || !input) return
  if (sidebar.getBoundingClientRect().right <= input.getBoundingClientRect().left) return
  sidebar.querySelector('[data-testid="stSidebarCollapseButton"] button')?.click()
  state.back = null
  requestAnimationFrame(() => {
    document.querySelector('[data-testid="stExpandSidebarButton"]')?.focus({ preventScroll: true })
  })
}

function onClick(event) {
  if (event.target.closest?.(OPENS)) uncover()
}

function onPointer(event) {
  state.back = null
  if (state.menu && !state.menu.contains(event.target) && !state.opener.contains(event.target)) close()
}

function onKey() {
  state.back = null
}

function onMoved(event) {
  if (!state.menu?.contains(event.target)) close()
}

const observer = new MutationObserver(fill)
const listeners = [
  [document, "click", onClick, false],
  [document, "pointerdown", onPointer, true],
  [document, "keydown", onKey, true],
  [document, "scroll", onMoved, true],
  [window, "resize", onMoved, false],
]

function begin(sidebar) {
  for (const listener of listeners) listener[0].addEventListener(...listener.slice(1))
  const others = document.adoptedStyleSheets.filter(one => one !== SHEET && one !== THEME)
  document.adoptedStyleSheets = [...others, THEME, SHEET]
  observer.disconnect()
  observer.observe(sidebar, { childList: true, characterData: true, subtree: true })
}

function end() {
  close()
  observer.disconnect()
  watchFurther(null)
  for (const listener of listeners) listener[0].removeEventListener(...listener.slice(1))
  for (const more of document.querySelectorAll(".al-chat-more")) more.remove()
  document.adoptedStyleSheets = document.adoptedStyleSheets.filter(one => one !== SHEET && one !== THEME)
}

// While a page is drawn anew there can be two of this component, and the older may be ended last.
const mounts = new Map()

function take() {
  for (const element of mounts.keys()) if (!element.isConnected) mounts.delete(element)
  const mount = [...mounts.values()].at(-1)
  if (!mount) return end()
  Object.assign(state, { data: mount.data, send: mount.send })
  dress(mount.element)
  begin(mount.element.closest('[data-testid="stSidebar"]'))
  fill()
}

export default function ({ data, parentElement: element, setTriggerValue }) {
  const mount = { element, data, send: act => setTriggerValue("act", act) }
  mounts.delete(element)
  mounts.set(element, mount)
  take()
  return () => {
    if (mounts.get(element) !== mount) return
    mounts.delete(element)
    take()
  }
}
