// A trace in the list: what tells it from the others, and why one of them cannot be opened.

import type { ListedTrace } from '../api/traces'
import { href } from '../route'

/** Where it is shown. null: nobody can ask for it. */
export function traceHref({ id }: ListedTrace): string | null {
  return id === null || id === '' ? null : href({ screen: 'trace', id })
}

/** The id; where nobody can ask for one, what else tells the trace from others. */
export function rowOf(trace: ListedTrace): string {
  const { id, root, first, last, events } = trace
  if (id !== null) return id
  const place = root === null ? '' : `${root.topic}/${root.partition}/${root.offset}`
  return `gone ${first} ${last} ${events} ${place}`
}

/** What stands in the place of a link, and what it means. */
export function unopened(trace: ListedTrace): { word: string; meaning: string } {
  if (trace.root === null) return { word: 'its record is gone', meaning: 'The record that told its id is gone' }
  return { word: 'its id is too long', meaning: 'Nobody can ask for an id of more than 4096 bytes: look for one of its events by its own id' }
}
