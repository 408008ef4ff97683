// Streamlit reads the theme when a page is loaded, for each address by itself.
const NAMES = { system: "System", light: "Light", dark: "Dark" }

function isDark(element) {
  const colour = getComputedStyle(element).getPropertyValue("--st-background-color").trim()
  const parts = colour.startsWith("#")
    ? [1, 3, 5].map(place => parseInt(colour.slice(place, place + 2), 16))
    : (colour.match(/[\d.]+/g) ?? [255, 255, 255]).slice(0, 3).map(Number)
  return parts[0] + parts[1] + parts[2] < 384
}

export default function ({ data: [data], parentElement }) {
  const value = JSON.stringify(NAMES[data.theme])
  let changed = false
  try {
    for (const path of data.paths) {
      const key = `stActiveTheme-${path}-v2`
      const before = localStorage.getItem(key)
      if (before === value || (before === null && data.theme === "system")) continue
      localStorage.setItem(key, value)
      changed = true
    }
  } catch {
    return // a browser that keeps nothing goes on with the theme of the system
  }
  const system = matchMedia("(prefers-color-scheme: dark)").matches
  const wanted = data.theme === "system" ? system : data.theme === "dark"
  const element = parentElement.host ?? parentElement
  if (!changed || isDark(element) === wanted) return
  // Not before the browser has its cookie, or it would stand at the door.
  Promise.resolve(globalThis.papitaErrand).then(() => location.reload())
}
