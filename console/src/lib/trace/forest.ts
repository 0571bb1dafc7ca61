// What caused what: the events of a trace as trees, of which each has its cause before its effects.

/** One event of a trace, or one of which only others speak. */
export interface TraceNode {
  /** The event's own id. */
  id: string
  type: string
  /** Milliseconds since 1970; null: unknown. */
  at: number | null
  /** Who published it; null: unknown. */
  producer: string | null
  /** The id of the event that caused it; null: nothing did. */
  cause: string | null
  /** Others name it as their cause, and nobody knows more of it. */
  isMissing: boolean
}

/** A node in its place among the others. */
export interface Placed<T> {
  node: T
  /** How many causes it has behind it. */
  depth: number
  /** Nodes that it caused, at once. */
  effects: Placed<T>[]
  cause: Placed<T> | null
}

/**
 * Trees of nodes. Whatever the causes say, each node is there once: one whose cause is not among the nodes,
 * or that is its own cause by some way round, begins a tree.
 */
export function forest<T extends TraceNode>(nodes: readonly T[]): Placed<T>[] {
  const placed = new Map<string, Placed<T>>()
  for (const node of nodes) {
    if (!placed.has(node.id)) placed.set(node.id, { node, depth: 0, effects: [], cause: null })
  }
  const roots: Placed<T>[] = []
  for (const one of placed.values()) {
    const cause = one.node.cause === null ? undefined : placed.get(one.node.cause)
    if (cause === undefined || leadsTo(cause, one)) {
      roots.push(one)
      continue
    }
    one.cause = cause
    cause.effects.push(one)
  }
  const waiting = [...roots]
  for (let one = waiting.pop(); one !== undefined; one = waiting.pop()) {
    one.effects.sort(byTime)
    for (const effect of one.effects) effect.depth = one.depth + 1
    waiting.push(...one.effects)
  }
  return roots.sort(byTime)
}

/** Is `to` among the causes of `from`, or `from` itself? */
function leadsTo<T>(from: Placed<T>, to: Placed<T>): boolean {
  for (let one: Placed<T> | null = from; one !== null; one = one.cause) if (one === to) return true
  return false
}

/** Each cause before what it caused, its first effect with all that follows from it before the second. */
export function inOrder<T>(roots: readonly Placed<T>[]): Placed<T>[] {
  const found: Placed<T>[] = []
  const waiting = roots.toReversed()
  for (let one = waiting.pop(); one !== undefined; one = waiting.pop()) {
    found.push(one)
    for (const effect of one.effects.toReversed()) waiting.push(effect)
  }
  return found
}

/** By time; where clocks disagree, still the cause first. What has no time comes right behind its cause. */
export function inTime<T extends TraceNode>(roots: readonly Placed<T>[]): Placed<T>[] {
  const found: Placed<T>[] = []
  const ready = [...roots]
  while (ready.length > 0) {
    let first = 0
    for (let at = 1; at < ready.length; at += 1) {
      if (byTime(ready[at] as Placed<T>, ready[first] as Placed<T>) < 0) first = at
    }
    const [one] = ready.splice(first, 1)
    if (one === undefined) break
    found.push(one)
    ready.push(...one.effects)
  }
  return found
}

function byTime<T extends TraceNode>(a: Placed<T>, b: Placed<T>): number {
  return timeOf(a) - timeOf(b) || 0
}

/** What has no time of its own was there before its first effect. */
function timeOf<T extends TraceNode>({ node, effects }: Placed<T>): number {
  return node.at ?? effects[0]?.node.at ?? Number.NEGATIVE_INFINITY
}
