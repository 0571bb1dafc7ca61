// Events a second, of two looks at how many there are.

import type { Int } from './json'

interface Counted {
  name: string
  id: string
  events: Int
}

export interface PerSecond {
  /** null: not known before the second look. */
  total: number | null
  byName: Map<string, number>
  /** Totals so far, the oldest first. */
  series: number[]
}

/** Points that are kept. */
const SERIES_MAX = 90

export class Rates {
  private before: Map<string, { id: string; events: bigint }> | null = null
  private at = 0
  private series: number[] = []

  note(topics: readonly Counted[], nowMs: number): PerSecond {
    const seconds = (nowMs - this.at) / 1000
    const byName = new Map<string, number>()
    const before = this.before
    if (before && seconds > 0) {
      for (const { name, id, events } of topics) {
        const known = before.get(name)
        // A topic that was made again begins anew; and what retention took away was not published backwards.
        const had = known?.id === id ? known.events : 0n
        const grown = known === undefined ? 0n : BigInt(events) - had
        byName.set(name, grown > 0n ? Number(grown) / seconds : 0)
      }
    }
    this.before = new Map(topics.map(({ name, id, events }) => [name, { id, events: BigInt(events) }]))
    this.at = nowMs
    if (!before || seconds <= 0) return { total: null, byName, series: [] }
    const total = [...byName.values()].reduce((sum, rate) => sum + rate, 0)
    this.series = [...this.series, total].slice(-SERIES_MAX)
    return { total, byName, series: this.series }
  }
}
