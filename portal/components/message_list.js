// Above the messages: asks for earlier ones as one goes up, keeps what is read where it is, and
// brings a message onto the screen.
const NEAR = 1600
const SETTLE = 4000
const MESSAGE = '[data-testid="stChatMessage"]'
const lists = new WeakMap()
let went = null

class List {
  constructor(element) {
    this.element = element
    this.scroller = scrollerOf(element)
    this.top = this.scroller.scrollTop
    this.onScroll = () => this.scrolled()
    this.scroller.addEventListener("scroll", this.onScroll, { passive: true })
    this.observer = new ResizeObserver(() => this.keep())
    for (const child of this.scroller.children) this.observer.observe(child)
    this.waiting = null
    this.anchor = null
  }

  show(data, act) {
    if (this.waiting !== null && this.waiting !== data.state) {
      this.waiting = null
      if (this.anchor) this.anchor.until = performance.now() + SETTLE
    }
    this.data = data
    this.act = act
    // An end that does not fill the screen cannot be scrolled.
    requestAnimationFrame(() => {
      const { scrollHeight, clientHeight } = this.scroller
      if (scrollHeight <= clientHeight && this.waits()) this.ask()
    })
    if (data.go && data.go.n !== went) {
      went = data.go.n
      goTo(data.go.id, performance.now() + SETTLE)
    }
  }

  scrolled() {
    const top = this.scroller.scrollTop
    const moved = top - this.top
    this.top = top
    if (this.anchor && performance.now() > this.anchor.until) this.hold(null)
    // Whoever scrolls meanwhile moves what is kept; only what comes above it must not.
    if (this.anchor) this.anchor.at -= moved
    if (moved < 0 && top <= NEAR && this.waits()) this.ask()
  }

  waits() {
    return this.data.more && this.waiting === null && this.element.isConnected
  }

  ask() {
    this.waiting = this.data.state
    this.hold(this.firstInView())
    this.act()
  }

  // Browsers keep the text in place themselves, unless one is at the very top; two that do would
  // do it twice.
  hold(element) {
    this.scroller.style.overflowAnchor = element ? "none" : ""
    this.anchor = element
      ? { element, at: element.getBoundingClientRect().top, until: Infinity }
      : null
  }

  firstInView() {
    const edge = this.scroller.getBoundingClientRect().top
    return [...this.scroller.querySelectorAll(MESSAGE)].find(element => {
      const box = element.getBoundingClientRect()
      return box.height && box.bottom > edge
    })
  }

  keep() {
    if (!this.anchor) return
    if (!this.anchor.element.isConnected) return this.hold(null)
    const moved = this.anchor.element.getBoundingClientRect().top - this.anchor.at
    if (Math.abs(moved) <= 1) return
    this.scroller.scrollTop += moved
    this.top = this.scroller.scrollTop
  }

  end() {
    this.hold(null)
    this.scroller.removeEventListener("scroll", this.onScroll)
    this.observer.disconnect()
  }
}

function scrollerOf(element) {
  for (let at = element; at; at = at.parentElement ?? at.getRootNode().host) {
    if (/auto|scroll/.test(getComputedStyle(at).overflowY)) return at
  }
  return document.scrollingElement
}

// Other messages are still coming then, and Streamlit may be on its way to the end of the page: so
// the message is brought back until all is quiet or its reader moves on.
const MOVES = ["wheel", "touchstart", "pointerdown", "keydown"]

function goTo(id, until) {
  let reached = null
  let over = false
  const end = () => {
    over = true
    for (const name of MOVES) window.removeEventListener(name, end, true)
  }
  for (const name of MOVES) window.addEventListener(name, end, true)
  const step = () => {
    if (over) return
    if (performance.now() > until) return end()
    requestAnimationFrame(step)
    const found = document.querySelector(`[data-message="${CSS.escape(id)}"]`)?.closest(MESSAGE)
    if (!found) return
    const top = found.getBoundingClientRect().top
    if (found === reached?.found && Math.abs(top - reached.top) <= 1) return
    if (found !== reached?.found) {
      found.style.scrollMarginTop = "4.5rem"
      found.tabIndex = -1
      found.style.outline = "none"
      found.focus({ preventScroll: true })
    }
    found.scrollIntoView({ block: "start" })
    reached = { found, top: found.getBoundingClientRect().top }
  }
  step()
}

export default function ({ data, parentElement, setTriggerValue }) {
  let list = lists.get(parentElement)
  if (!list) lists.set(parentElement, (list = new List(parentElement)))
  // Another call may come without the end of this one, or ahead of it.
  const call = {}
  list.call = call
  list.show(data, () => setTriggerValue("reached", data.state))
  return () => {
    if (list.call !== call) return
    list.end()
    lists.delete(parentElement)
  }
}
