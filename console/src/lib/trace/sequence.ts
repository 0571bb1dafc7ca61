// The same trace in time: a lane for everybody who published, a row for each event, and time going down.
// Rows are of one height, so a night between two events takes no more room than a millisecond; how long it
// was is written on the axis.

import { inTime, type Placed, type TraceNode } from './forest'

export const ROW = 40
export const GAP = 28

export interface Row<T> {
  placed: Placed<T>
  lane: number
  /** The lane of its cause; null: it has none here. */
  from: number | null
  y: number
  /** Since the first event, in milliseconds; null: unknown. */
  sinceFirst: number | null
}

/** A time in which nothing happened. */
export interface Idle {
  y: number
  ms: number
}

export interface Sequence<T> {
  /** Who published; null: nobody knows. */
  lanes: (string | null)[]
  rows: Row<T>[]
  idles: Idle[]
  height: number
}

/** From when on it is written down that nothing happened. */
const IDLE_MS = 1000

export function sequence<T extends TraceNode>(roots: readonly Placed<T>[]): Sequence<T> {
  const all = inTime(roots)
  // In the order in which they first speak; what nobody is known to have published stands at the side.
  const names = new Set(all.map(({ node }) => node.producer))
  const lanes = [...names].filter((name) => name !== null)
  const places = new Map<string | null, number>(lanes.map((name, at) => [name, at]))
  const laneOf = (name: string | null): number => places.get(name) ?? lanes.length
  const first = all.find(({ node }) => node.at !== null)?.node.at ?? null
  const least = idleFrom(all)
  const rows: Row<T>[] = []
  const idles: Idle[] = []
  let y = 0
  let before: number | null = null
  for (const placed of all) {
    const { at, producer } = placed.node
    const passed = at !== null && before !== null ? at - before : 0
    if (passed >= least) {
      idles.push({ y, ms: passed })
      y += GAP
    }
    const sinceFirst = at === null || first === null ? null : at - first
    const from = placed.cause ? laneOf(placed.cause.node.producer) : null
    rows.push({ placed, lane: laneOf(producer), from, y, sinceFirst })
    y += ROW
    before = at === null ? before : Math.max(before ?? at, at)
  }
  return { lanes: names.has(null) ? [...lanes, null] : lanes, rows, idles, height: y }
}

/** A second, or more where seconds are what is usual here. */
function idleFrom<T extends TraceNode>(all: readonly Placed<T>[]): number {
  const times = all.flatMap(({ node }) => (node.at === null ? [] : [node.at]))
  const steps = times.slice(1).map((at, index) => at - (times[index] ?? at))
  const middle = steps.toSorted((a, b) => a - b)[Math.floor((steps.length - 1) / 2)] ?? 0
  return Math.max(IDLE_MS, middle * 3)
}
