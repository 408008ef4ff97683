// Recovery codes, to be copied or kept as a file. They are in this part of the page alone.
//
// data: codes, file (its name), head (its first lines), words (texts on the screen).

export default function ({ data, parentElement }) {
  const { codes, file, head, words } = data
  const list = parentElement.querySelector("ol")
  const [copy, save] = parentElement.querySelectorAll("button")
  const note = parentElement.querySelector("p")
  list.setAttribute("aria-label", words.list)
  list.replaceChildren(
    ...codes.map(code => Object.assign(document.createElement("li"), { textContent: code })),
  )
  copy.textContent = words.copy
  save.textContent = words.save
  copy.onclick = async () => {
    try {
      await navigator.clipboard.writeText(codes.join("\n"))
      note.textContent = words.copied
    } catch {
      note.textContent = words.by_hand
      getSelection().selectAllChildren(list)
    }
  }
  save.onclick = () => {
    const url = URL.createObjectURL(new Blob([`${head}\n\n${codes.join("\n")}\n`], { type: "text/plain" }))
    const link = Object.assign(document.createElement("a"), { href: url, download: file })
    link.click()
    setTimeout(() => URL.revokeObjectURL(url), 1000)
    note.textContent = words.saved
  }
}
