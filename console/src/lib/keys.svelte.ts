// The keyboard. One listener for the page; screens and lists say what they take, the newest first.

/** Takes a key, or leaves it to the next one. `g t` is one key here. */
type Taker = (key: string) => boolean

const takers: Taker[] = []

/** How long the second key of `g t` may take. */
const CHORD_MS = 1200

let pending = ''
let pendingUntil = 0

/** Takes keys while the component that calls this is on the page. */
export function onKeys(taker: Taker): void {
  $effect(() => {
    takers.unshift(taker)
    return () => void takers.splice(takers.indexOf(taker), 1)
  })
}

/** Is somebody writing a text? Then keys are letters. */
function isWriting(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false
  if (target instanceof HTMLInputElement) return !['checkbox', 'radio', 'button', 'submit'].includes(target.type)
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement || target.isContentEditable
}

function onKeydown(event: KeyboardEvent): void {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return
  if (document.querySelector('dialog[open]')) return
  if (isWriting(event.target)) {
    // Esc leaves a field; what was written stays.
    if (event.key === 'Escape' && event.target instanceof HTMLElement) event.target.blur()
    return
  }
  // A button or a link that is in focus has its own Enter.
  const isOnControl = event.target instanceof Element && event.target.closest('button, a, summary') !== null
  if (isOnControl && (event.key === 'Enter' || event.key === ' ')) return
  const now = performance.now()
  let key = event.key
  if (pending && now < pendingUntil) key = `${pending} ${key}`
  pending = ''
  if (key === 'g') {
    pending = key
    pendingUntil = now + CHORD_MS
    return
  }
  if (key === '/') {
    const field = document.querySelector<HTMLInputElement>('[data-filter]')
    if (field) {
      event.preventDefault()
      field.focus()
      field.select()
    }
    return
  }
  if (takers.some((taker) => taker(key))) event.preventDefault()
}

addEventListener('keydown', onKeydown)

/** What the help shows. */
export const KEYS: readonly (readonly [string, string])[] = [
  ['/', 'to the filter of this screen'],
  ['j  k', 'next, previous row'],
  ['Enter', 'open the row'],
  ['Esc', 'close what is open, leave a field'],
  ['g o', 'overview'],
  ['g t', 'topics'],
  ['g g', 'groups'],
  ['g d', 'dead letters'],
  ['g r', 'traces'],
  ['g s', 'settings'],
  ['1 … 6', 'tabs of a topic'],
  ['1  2  3', 'tree, sequence, table of a trace'],
  ['←  →', 'cause, first effect of an event in a trace'],
  ['x', 'choose the letter of this row'],
  ['p', 'pause and go on, where it is live'],
  ['t', 'light or dark'],
  ['?', 'this help'],
]
