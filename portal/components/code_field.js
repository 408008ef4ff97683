// Fields for codes of six digits bring up the keyboard with numbers, which Streamlit cannot ask for.

const FIELDS = 'input[autocomplete="one-time-code"]'

function numbers(field) {
  if (field?.matches?.(FIELDS)) field.inputMode = "numeric"
}

const onFocus = event => numbers(event.target)

export default function () {
  document.querySelectorAll(FIELDS).forEach(numbers)
  document.addEventListener("focusin", onFocus, true)
  return () => document.removeEventListener("focusin", onFocus, true)
}
