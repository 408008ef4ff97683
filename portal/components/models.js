// The list of models: a text field that finds as one types, favourites first.
//
// data: value, number (of the choice: an older one does not count any more), models
// ([{id, about}], favourites first), favourites (ids), words (texts on the screen).

const SHOWN = 200
const instances = new WeakMap()

function make(root) {
  const one = {
    field: root.querySelector("input"),
    menu: root.querySelector("[role=listbox]"),
    star: root.querySelector("button"),
    options: [],
    at: -1,
    typed: false,
    drawn: "",
    data: null,
    send: null,
  }

  function matches() {
    const all = one.data.models
    const words = one.typed ? one.field.value.trim().toLowerCase() : ""
    if (!words) return all.slice(0, SHOWN)
    const parts = words.split(/\s+/)
    const found = all.filter((model) => parts.every((part) => model.id.toLowerCase().includes(part)))
    found.sort((a, b) => Number(b.id.toLowerCase() === words) - Number(a.id.toLowerCase() === words))
    const wanted = one.field.value.trim()
    if (!found.some((model) => model.id === wanted)) found.push({ id: wanted, about: one.data.words.other })
    return found.slice(0, SHOWN)
  }

  function option(model, number) {
    const row = document.createElement("div")
    row.id = `model-${number}`
    row.setAttribute("role", "option")
    row.setAttribute("aria-label", model.id)
    row.setAttribute("aria-selected", String(number === one.at))
    const name = document.createElement("span")
    name.textContent = (one.data.favourites.includes(model.id) ? "★ " : "") + model.id
    const about = document.createElement("small")
    about.textContent = model.about
    row.append(name, about)
    row.onmousedown = (event) => event.preventDefault()
    row.onclick = () => choose(number)
    return row
  }

  // Rows that are there stay: one may be pressed, and its click would find nothing any more.
  function draw() {
    const { favourites, words } = one.data
    const drawn = JSON.stringify([one.options, one.at, favourites, words.foot])
    if (!one.menu.hidden && drawn === one.drawn) return
    one.drawn = drawn
    const rows = one.options.map(option)
    if (words.foot && one.options.some((model) => model.about.includes("$"))) {
      const foot = document.createElement("footer")
      foot.textContent = words.foot
      foot.setAttribute("role", "presentation")
      rows.push(foot)
    }
    one.menu.replaceChildren(...rows)
    const frame = one.field.getBoundingClientRect()
    const width = Math.min(Math.max(frame.width, 380), window.innerWidth - 24)
    one.menu.hidden = false
    Object.assign(one.menu.style, {
      left: `${Math.max(12, Math.min(frame.left, window.innerWidth - width - 12))}px`,
      width: `${width}px`,
      bottom: `${window.innerHeight - frame.top + 6}px`,
      maxHeight: `${Math.max(120, Math.min(frame.top - 24, 400))}px`,
    })
    one.field.setAttribute("aria-expanded", "true")
    if (one.at >= 0) one.field.setAttribute("aria-activedescendant", `model-${one.at}`)
    one.menu.children[one.at]?.scrollIntoView({ block: "nearest" })
  }

  function open() {
    one.options = matches()
    one.at = one.typed ? 0 : one.options.findIndex((model) => model.id === one.data.value)
    if (one.options.length) draw()
  }

  function close() {
    one.menu.hidden = true
    one.typed = false
    one.field.setAttribute("aria-expanded", "false")
    one.field.removeAttribute("aria-activedescendant")
    one.field.value = one.data.value
    starred()
  }

  function choose(number) {
    const model = one.options[number]
    if (!model) return
    one.data = { ...one.data, value: model.id }
    close()
    one.send("choice", { number: one.data.number, model: model.id })
  }

  function starred() {
    const is = one.data.favourites.includes(one.data.value)
    one.star.textContent = is ? "★" : "☆"
    one.star.setAttribute("aria-pressed", String(is))
    one.star.hidden = !one.data.value
  }

  function openAll() {
    open()
    one.field.select()
  }

  // The browser would take the selection back after the click where the text was selected before.
  one.field.onmousedown = (event) => {
    if (!one.menu.hidden || event.button) return
    event.preventDefault()
    one.field.focus()
    openAll()
  }
  one.field.onclick = () => {
    if (one.menu.hidden) openAll()
  }
  one.field.oninput = () => {
    one.typed = true
    open()
  }
  one.field.onblur = close
  one.field.onkeydown = (event) => {
    const closed = one.menu.hidden
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (closed) open()
      else {
        const count = one.options.length
        const step = event.key === "ArrowDown" ? 1 : -1
        one.at = one.at < 0 ? (step > 0 ? 0 : count - 1) : (one.at + step + count) % count
        draw()
      }
    } else if (event.key === "Enter" && !closed) choose(one.at)
    else if (event.key === "Escape" && !closed) close()
    else return
    event.preventDefault()
    event.stopPropagation()
  }
  one.starred = starred
  one.open = open
  return one
}

export default function ({ data: [data], parentElement, setStateValue }) {
  const one = instances.get(parentElement) ?? make(parentElement)
  instances.set(parentElement, one)
  one.data = { ...data }
  one.send = setStateValue
  one.star.onclick = () => {
    const { value, favourites } = one.data
    const rest = favourites.filter((id) => id !== value)
    one.data.favourites = rest.length < favourites.length ? rest : [...favourites, value]
    one.starred()
    setStateValue("favourites", one.data.favourites)
  }
  one.field.setAttribute("aria-label", data.words.label)
  one.field.placeholder = data.words.label
  one.menu.setAttribute("aria-label", data.words.label)
  one.star.setAttribute("aria-label", data.words.favourite)
  one.star.title = data.words.favourite
  if (one.menu.hidden) one.field.value = data.value
  else one.open()
  one.starred()
  one.field.parentElement.style.visibility = ""
}
