// The bar below each message, as a custom element: this file is sent once for all of them. A
// message brings an empty place with its text; what else a bar shows comes for all at once.
const STYLE = `
  :host { display: block; font-family: var(--st-font); color: var(--st-gray-text-color); }
  [role="toolbar"] { display: flex; flex-wrap: wrap; align-items: center; gap: 2px; margin-left: -7px; }
  .rest { display: contents; }
  .quiet .rest > * { opacity: 0; }
  .quiet:focus-within .rest > *, .quiet.near .rest > * { opacity: 1; }
  @media (hover: none) { .quiet .rest > * { opacity: 1; } }
  button {
    display: inline-flex; align-items: center; justify-content: center; width: 30px; height: 30px;
    padding: 0; border: 0; border-radius: var(--st-button-radius); background: none; color: inherit;
    cursor: pointer;
  }
  button:hover:not(:disabled) {
    background: var(--st-secondary-background-color); color: var(--st-text-color);
  }
  button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: -1px; }
  button:disabled { cursor: default; opacity: 0.4; }
  button[aria-pressed="true"] { color: var(--st-text-color); }
  button[aria-pressed="true"] .icon { font-variation-settings: "FILL" 1; }
  .icon {
    font-family: "Material Symbols Rounded"; font-size: 18px; line-height: 1; width: 18px;
    overflow: hidden; white-space: nowrap; font-feature-settings: "liga"; user-select: none;
  }
  .receipt {
    width: auto; margin-left: -6px; padding: 0 6px; font: inherit; font-size: 0.8rem; text-align: start;
    overflow-wrap: anywhere;
  }
  .choose { width: auto; gap: 4px; padding: 0 6px; font: inherit; font-size: 0.875rem; }
  .receipt:not(:hover) { color: inherit; }
  form { display: flex; flex-wrap: wrap; align-items: center; gap: 8px; margin: 4px 0 2px; }
  input {
    flex: 1 1 8rem; min-width: 0; height: 2.4rem; padding: 0 12px; box-sizing: border-box;
    border: 1px solid var(--st-border-color); border-radius: var(--st-base-radius);
    background: var(--st-secondary-background-color); color: var(--st-text-color); font: inherit;
  }
  input:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: -1px; }
  input::placeholder { color: var(--st-gray-text-color); opacity: 1; }
  form button {
    width: auto; height: 2.4rem; padding: 0 12px; font: inherit; color: var(--st-text-color);
  }
  form button[type="submit"] { border: 1px solid var(--st-border-color); }
  .count { font-size: 0.8rem; font-variant-numeric: tabular-nums; padding: 0 2px; }
  .spoken {
    position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
    white-space: nowrap;
  }
`

const SHEET = new CSSStyleSheet()
SHEET.replaceSync(STYLE)
// Streamlit gives its colours to components alone: the bars get those of the one that has the data.
const THEME = new CSSStyleSheet()
const NAMES = [...new Set(STYLE.match(/--st-[a-z-]+/g))]

function dress(component) {
  const given = getComputedStyle(component)
  const rules = NAMES.map(name => `${name}: ${given.getPropertyValue(name)};`)
  THEME.replaceSync(`:host { ${rules.join(" ")} }`)
}

const BUTTONS = {
  question: ["edit", "copy"],
  answer: ["copy", "up", "down", "again", "other", "branch", "speak"],
}
const ICONS = {
  previous: "chevron_left", next: "chevron_right", edit: "edit", copy: "content_copy",
  up: "thumb_up", down: "thumb_down", again: "refresh", other: "model_training",
  branch: "call_split", speak: "volume_up", choose: "radio_button_unchecked",
}

const PLACE = "al-chat-bar"

class MessageBar extends HTMLElement {
  static all = new Set()
  static words = {}
  static state = null
  static send = null
  static speaker = null

  // What all bars show, and where a click goes.
  static update(state, act) {
    this.state = state
    this.words = state.words
    this.send = act
    for (const bar of this.all) bar.show()
  }

  // Messages come and go; each place that is still empty gets its bar.
  static watch() {
    const fill = () => {
      for (const place of document.querySelectorAll(`.${PLACE}:empty`)) place.append(new this())
    }
    new MutationObserver(fill).observe(document.body, { childList: true, subtree: true })
    fill()
  }

  constructor() {
    super()
    const root = this.attachShadow({ mode: "open" })
    root.adoptedStyleSheets = [SHEET, THEME]
    this.bar = make("div", { role: "toolbar" })
    this.rest = make("span", { class: "rest" })
    this.status = make("span", { class: "spoken", role: "status" })
    this.buttons = {}
    this.names = ""
    root.append(this.bar, this.status)
    this.bar.addEventListener("keydown", event => this.walk(event))
  }

  connectedCallback() {
    MessageBar.all.add(this)
    const { message, kind, text } = this.parentElement.dataset
    Object.assign(this, { message, kind, text })
    this.place = this.closest('[data-testid="stChatMessage"]')
    this.near = event => this.bar.classList.toggle("near", event.type === "mouseenter")
    this.place?.addEventListener("mouseenter", this.near)
    this.place?.addEventListener("mouseleave", this.near)
    this.show()
  }

  disconnectedCallback() {
    MessageBar.all.delete(this)
    this.place?.removeEventListener("mouseenter", this.near)
    this.place?.removeEventListener("mouseleave", this.near)
    if (MessageBar.speaker === this) this.hush()
  }

  show() {
    const state = MessageBar.state
    if (!state) return
    const [rating = null, comment = null] = state.ratings[this.message] ?? []
    const failed = state.failed[this.message] ?? 0
    // What was clicked here counts until the page says something else.
    if (this.said !== rating || this.failed !== failed) this.rating = rating
    if (this.failed === failed && this.sent === (comment ?? "")) this.close()
    if (this.failed !== failed) this.sent = null
    this.said = rating
    this.failed = failed
    this.comment = comment
    this.draw()
  }

  act(name, more = {}) {
    MessageBar.send?.({ message: this.message, name, ...more })
  }

  draw() {
    const state = MessageBar.state
    if (!state) return
    const { kind } = this
    const versions = state.versions[this.message]
    const receipt = state.receipts[this.message]
    const chosen = state.chosen[this.message]
    const rest = BUTTONS[kind].filter(name => name !== "speak" || "speechSynthesis" in window)
    const names = [versions ? "versions" : "", chosen === undefined ? "" : "choose", ...rest].join()
    if (names !== this.names) {
      this.names = names
      this.rest.replaceChildren(...rest.map(name => this.button(name)))
      const count = make("span", { class: "count" })
      this.count = count
      const walk = versions ? [this.button("previous"), count, this.button("next")] : []
      const choose = chosen === undefined ? [] : [this.button("choose")]
      this.bar.replaceChildren(...choose, ...walk, this.rest)
    }
    this.bar.classList.toggle("quiet", state.last !== this.message && chosen === undefined)
    this.bar.setAttribute("aria-label", MessageBar.words[kind] ?? kind)
    if (versions) {
      this.count.textContent = `${versions[0]}/${versions[1]}`
      this.buttons.previous.disabled = versions[0] <= 1
      this.buttons.next.disabled = versions[0] >= versions[1]
    }
    this.chosen = chosen
    for (const [name, button] of Object.entries(this.buttons)) this.dress(name, button)
    this.roving()
    this.drawReceipt(receipt)
  }

  drawReceipt(text) {
    if (!text) return this.receipt?.remove()
    this.receipt ??= make("button", { type: "button", class: "receipt" })
    this.receipt.onclick = () => this.act("receipt")
    this.receipt.title = MessageBar.words.receipt ?? ""
    if (this.receipt.textContent !== text) this.receipt.textContent = text
    if (!this.receipt.isConnected) this.bar.after(this.receipt)
  }

  dress(name, button) {
    const speaking = name === "speak" && MessageBar.speaker === this
    const label = MessageBar.words[speaking ? "hush" : name] ?? name
    if (name === "choose") button.lastChild.textContent = label
    button.setAttribute("aria-label", label)
    button.title = label
    const icon = speaking ? "stop_circle" : name === "copy" && this.copied ? "check" : ICONS[name]
    button.firstChild.textContent = name === "choose" && this.chosen ? "radio_button_checked" : icon
    if (name === "choose") button.setAttribute("aria-pressed", String(Boolean(this.chosen)))
    if (name === "up" || name === "down") {
      button.setAttribute("aria-pressed", String(this.rating === name))
    }
  }

  button(name) {
    if (this.buttons[name]) return this.buttons[name]
    const button = make("button", { type: "button", class: name })
    button.append(make("span", { class: "icon", "aria-hidden": "true" }))
    if (name === "choose") button.append(make("span", {}))
    button.addEventListener("click", () => this.click(name))
    this.buttons[name] = button
    return button
  }

  click(name) {
    if (name === "copy") this.copy()
    else if (name === "speak") this.speak()
    else {
      if (name === "up" || name === "down") {
        this.rating = this.rating === name ? null : name
        this.act("rate", { value: this.rating })
        if (this.rating) this.open()
        else this.close()
      } else this.act(name)
      this.draw()
    }
  }

  // Words to the thumb: they are kept here until the page says that it has them.
  open() {
    this.close()
    const asked = MessageBar.words[this.rating === "up" ? "good" : "wrong"]
    const form = make("form", {})
    const field = make("input", { "aria-label": asked, placeholder: asked, maxlength: "2000" })
    field.value = this.comment ?? ""
    const send = make("button", { type: "submit" })
    send.textContent = MessageBar.words.send
    const close = make("button", { type: "button" })
    close.textContent = MessageBar.words.close
    close.addEventListener("click", () => {
      this.close()
      this.buttons[this.rating]?.focus()
    })
    form.addEventListener("submit", event => {
      event.preventDefault()
      this.sent = field.value.trim()
      if (this.sent === (this.comment ?? "")) return this.close()
      this.act("words", { value: this.rating, words: this.sent })
    })
    form.append(field, send, close)
    this.form = form
    this.status.before(form)
  }

  close() {
    this.form?.remove()
    this.form = this.sent = null
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(this.text)
    } catch {
      // Without https there is no clipboard but this one.
      const field = make("textarea", { readonly: "" })
      field.value = this.text
      document.body.append(field)
      field.select()
      document.execCommand("copy")
      field.remove()
      this.buttons.copy.focus()
    }
    this.copied = true
    this.status.textContent = MessageBar.words.copied
    this.draw()
    clearTimeout(this.timer)
    this.timer = setTimeout(() => {
      this.copied = false
      this.status.textContent = ""
      this.draw()
    }, 1500)
  }

  speak() {
    if (MessageBar.speaker === this) return this.hush()
    MessageBar.speaker?.hush()
    MessageBar.speaker = this
    // By paragraphs: some voices fall silent in the midst of a long text.
    const parts = spoken(this.text)
    parts.forEach((part, number) => {
      const words = new SpeechSynthesisUtterance(part)
      if (number === parts.length - 1) words.onend = () => this.hush()
      words.onerror = () => this.hush()
      speechSynthesis.speak(words)
    })
    this.draw()
  }

  hush() {
    if (MessageBar.speaker !== this) return
    MessageBar.speaker = null
    speechSynthesis.cancel()
    this.draw()
  }

  // One tab stop for each bar, arrows within it (ARIA Authoring Practices, toolbar).
  within() {
    return [...this.bar.querySelectorAll("button:not(:disabled)")]
  }

  roving(chosen) {
    const buttons = this.within()
    const stop = chosen ?? buttons.find(button => button.tabIndex === 0) ?? buttons[0]
    for (const button of Object.values(this.buttons)) button.tabIndex = button === stop ? 0 : -1
  }

  walk(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key]
    const buttons = this.within()
    const at = buttons.indexOf(this.shadowRoot.activeElement)
    if (!step || at < 0) return
    event.preventDefault()
    const next = buttons[(at + step + buttons.length) % buttons.length]
    this.roving(next)
    next.focus()
  }
}

function make(tag, attributes) {
  const made = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value)
  return made
}

function spoken(text) {
  const plain = text
    .replace(/^ {0,3}(`{3,}|~{3,})[^]*?(^ {0,3}\1|$(?![^]))/gm, "")
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replace(/^\s*[|:\- ]+$/gm, "")
    .replace(/[*_`#>|~$\\]/g, " ")
  const parts = plain.split(/\n{2,}/).map(part => part.trim()).filter(Boolean)
  return parts.length ? parts : [plain]
}

if (!customElements.get("AL-CHAT-BAR")) {
  customElements.define("AL-CHAT-BAR", MessageBar)
  MessageBar.watch()
}

// data: words (texts on the screen), and by id of the message versions ([number, count]), ratings
// ([thumb, words]), failed (how often a thumb was not kept), receipts, chosen (of answers side by
// side, whether the chat goes on with it); last (id).
export default function ({ data, parentElement, setTriggerValue }) {
  dress(parentElement)
  customElements.get("AL-CHAT-BAR").update(data, act => setTriggerValue("act", act))
}
