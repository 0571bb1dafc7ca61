// An event of a trace in words.

import { duration } from '../../lib/format'
import type { Placed } from '../../lib/trace/forest'
import { missingId, type ShownNode } from '../../lib/trace/model'

/** Milliseconds since its cause; null: unknown, or it has none. Clocks that disagree say nothing. */
export function sinceCause({ node, cause }: Placed<ShownNode>): number | null {
  if (node.at === null || cause === null || cause.node.at === null) return null
  return Math.max(0, node.at - cause.node.at)
}

/** How much time passed: in milliseconds where they count. */
export function passed(ms: number): string {
  return Math.abs(ms) < 1000 ? `${Math.round(ms)} ms` : duration(ms / 1000)
}

/** All that is known, for who asks for more than there is room for. */
export function aboutOf(placed: Placed<ShownNode>): string {
  const { node, cause } = placed
  if (node.event === null) return `${missingId(node)}: others name it as their cause; it is not in the index`
  const { event } = node
  const since = sinceCause(placed)
  return [
    `${node.type}${event.kind === 'dead_letter' ? ', a dead letter' : ''}`,
    event.topic === null ? 'its topic is gone' : `${event.topic}/${event.partition} at offset ${event.offset}`,
    node.producer === null ? 'published by somebody unknown' : `published by ${node.producer}`,
    event.key === null ? 'no key' : `key ${event.key}`,
    cause ? `caused by ${cause.node.event === null ? missingId(cause.node) : cause.node.type}${since === null ? '' : `, ${passed(since)} before`}` : '',
    event.dead_letter?.error_type ?? '',
    event.dead_letter?.error ?? '',
    event.gone ?? '',
    event.duplicate ? 'the same event as one before it' : '',
  ]
    .filter((line) => line !== '')
    .join('\n')
}
