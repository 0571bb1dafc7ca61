// The events of a trace as the server tells of them, as nodes of a tree; with those that only others name.

import type { TracedEvent, UnknownParent } from '../api/traces'
import type { TraceNode } from './forest'

export interface ShownNode extends TraceNode {
  /** null: only named by others. */
  event: TracedEvent | null
}

/** The name of what only others name is its own id, which no number is. */
const MISSING = 'missing:'

export function nodesOf(events: readonly TracedEvent[], unknown: readonly UnknownParent[]): ShownNode[] {
  const causes = new Map<number, string>()
  const nodes: ShownNode[] = []
  const named = new Map<string, number[]>()
  // A cause that nobody knows may be named on more than one page.
  for (const { event_id, children } of unknown) named.set(event_id, [...(named.get(event_id) ?? []), ...children])
  for (const [eventId, children] of named) {
    const id = MISSING + eventId
    nodes.push({ id, type: 'not indexed', at: null, producer: null, cause: null, isMissing: true, event: null })
    for (const child of children) causes.set(child, id)
  }
  for (const event of events) {
    const cause = event.parent === null ? (causes.get(event.n) ?? null) : String(event.parent)
    const at = event.time === null ? null : Date.parse(event.time)
    nodes.push({ id: String(event.n), type: nameOf(event), at, producer: producerOf(event), cause, isMissing: false, event })
  }
  return nodes
}

/** The id of an event that only others name. */
export function missingId(node: ShownNode): string {
  return node.id.slice(MISSING.length)
}

function nameOf(event: TracedEvent): string {
  if (event.type !== null) return event.type
  return event.kind === 'gone' ? 'deleted event' : 'no type'
}

/** A dead letter is written by whoever could not handle the event. */
function producerOf(event: TracedEvent): string | null {
  return event.kind === 'dead_letter' ? (event.dead_letter?.consumer ?? event.source) : event.source
}
