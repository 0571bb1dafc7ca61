// A live tail: what is published, as it is published. It goes on where it was when a connection breaks, and
// holds what has not been shown until somebody wants to see it.

import { Problem, send, Unreachable } from './api/client'
import type { EventRecord, Gap } from './api/types'
import { parse, plain, type Int } from './json'
import { EventParser, type ServerEvent } from './sse'
import { idOf } from './record'

export type TailStanding = 'connecting' | 'live' | 'broken' | 'ended'

/** Rows that are kept; older ones go. */
export const ROWS_MAX = 1000
/** Records a second that the server sends at most: more than anybody reads. */
const RATE = 200
/** From one change of the list to the next: ten a second are fluent, and more cost only power. */
const SHOW_MS = 100
/** From a broken connection to the next. */
const AGAIN_MS = 1000
/** Silence after which a connection is taken for broken: the server gives a sign of life every ten seconds. */
const SILENCE_MS = 25_000

export interface TailAsked {
  topics: string
  partition?: string
  from?: string
  contains?: string
  key?: string
  type?: string
}

export class Tail {
  standing = $state<TailStanding>('connecting')
  /** What is shown, the newest first. */
  records = $state.raw<EventRecord[]>([])
  /** What has come and is not shown. */
  waiting = $state(0)
  /** Offsets that were passed over, because they were too many. */
  skipped = $state.raw<Int>(0)
  gaps = $state.raw<Gap[]>([])
  problem = $state.raw<unknown>()
  reason = $state('')
  /** Events a second, over the last few. */
  rate = $state(0)

  private held: EventRecord[] = []
  /** What has come: a stream that goes on may say again what it had said. */
  private known = new Set<string>()
  private arrived = 0
  private lastId = ''

  /** Follows what `make` says, and anew when that changes; `isHeld` says whether the list must stand still. */
  constructor(make: () => TailAsked, isHeld: () => boolean) {
    $effect(() => {
      const asked = make()
      this.records = []
      this.held = []
      this.known.clear()
      this.waiting = 0
      this.skipped = 0
      this.gaps = []
      this.lastId = ''
      const gone = new AbortController()
      void this.follow(asked, gone.signal)
      return () => gone.abort()
    })
    $effect(() => {
      const timer = setInterval(() => {
        if (isHeld()) this.waiting = this.held.length
        else this.show()
      }, SHOW_MS)
      const second = setInterval(() => {
        this.rate = Math.round((this.rate + this.arrived * 2) / 3)
        this.arrived = 0
      }, 1000)
      return () => {
        clearInterval(timer)
        clearInterval(second)
      }
    })
  }

  /** Puts what waits into the list. */
  show(): void {
    if (this.held.length > 0) {
      this.records = [...this.held.toReversed(), ...this.records].slice(0, ROWS_MAX)
      this.held = []
    }
    this.waiting = 0
  }

  private async follow(asked: TailAsked, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await shown(signal)
        await this.once(asked, signal)
        if (this.standing === 'ended') return
      } catch (error) {
        if (signal.aborted) return
        // The server says no: it would again, unless only too many streams are open.
        if (error instanceof Problem && error.status < 500 && error.status !== 429) {
          this.problem = error
          this.standing = 'ended'
          return
        }
        this.problem = error instanceof Unreachable ? undefined : error
      }
      this.standing = 'broken'
      await pause(AGAIN_MS, signal)
    }
  }

  /** One connection, until it breaks. */
  private async once(asked: TailAsked, signal: AbortSignal): Promise<void> {
    const broken = new AbortController()
    const either = AbortSignal.any([signal, broken.signal])
    // A tab that nobody sees follows nothing; it goes on where it was.
    const onHidden = (): void => {
      if (document.hidden) broken.abort()
    }
    let silence = setTimeout(() => broken.abort(), SILENCE_MS)
    document.addEventListener('visibilitychange', onHidden)
    try {
      const headers: Record<string, string> = this.lastId === '' ? {} : { 'last-event-id': this.lastId }
      const response = await send('/tail', { query: { ...asked, rate: RATE }, headers }, either)
      const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader()
      if (!reader) return
      this.problem = undefined
      this.standing = 'live'
      const parser = new EventParser()
      for (;;) {
        const { done, value } = await reader.read()
        if (done) return
        clearTimeout(silence)
        silence = setTimeout(() => broken.abort(), SILENCE_MS)
        for (const event of parser.push(value)) this.take(event)
        if (parser.lastId !== '') this.lastId = parser.lastId
      }
    } finally {
      clearTimeout(silence)
      document.removeEventListener('visibilitychange', onHidden)
    }
  }

  private take(event: ServerEvent): void {
    const data = plain(parse(event.data)) as Record<string, unknown>
    if (event.event === 'record') {
      const record = data as unknown as EventRecord
      if (this.known.has(idOf(record))) return
      this.known.add(idOf(record))
      this.held.push(record)
      this.arrived += 1
      if (this.known.size > 8 * ROWS_MAX) this.known = new Set([...this.records, ...this.held].map(idOf))
      if (this.held.length > ROWS_MAX) this.held.splice(0, this.held.length - ROWS_MAX)
    } else if (event.event === 'skipped') {
      this.skipped = BigInt(this.skipped) + BigInt(data['skipped'] as Int)
    } else if (event.event === 'gap') {
      this.gaps = [...this.gaps, data as unknown as Gap].slice(-100)
    } else if (event.event === 'ended') {
      this.reason = String(data['reason'])
      this.standing = 'ended'
    }
  }

  /** Whether a record is in the list. */
  find(id: string): EventRecord | undefined {
    return this.records.find((record) => idOf(record) === id)
  }
}

/** Waits until somebody sees the page. */
function shown(signal: AbortSignal): Promise<void> {
  if (!document.hidden) return Promise.resolve()
  return new Promise((done, fail) => {
    document.addEventListener('visibilitychange', () => done(), { once: true, signal })
    signal.addEventListener('abort', () => fail(signal.reason))
  })
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', () => {
      clearTimeout(timer)
      done()
    })
  })
}
