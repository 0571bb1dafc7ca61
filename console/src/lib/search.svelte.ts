// A search as it goes: it runs on the server, says how far it is, and shows what it has found so far.

import { ask, isAbort } from './api/client'
import type { EventRecord, Search, SearchRequest, SearchStatus } from './api/types'
import { encode } from './json'

/** From one look at a search to the next. */
const LOOK_MS = 300
const PAGE = 1000

interface Results {
  status: SearchStatus
  records: EventRecord[]
  next: string | null
}

export class SearchJob {
  progress = $state.raw<Search | undefined>()
  records = $state.raw<EventRecord[]>([])
  problem = $state.raw<unknown>()
  private turn = $state(0)
  private make: () => SearchRequest | null
  /** What is looked for, as the server is told: a text, so that the same again is no new search. */
  readonly requestText = $derived.by(() => this.written())

  /** Searches for what `make` says, and anew when that changes. null: there is nothing to look for. */
  constructor(make: () => SearchRequest | null) {
    this.make = make
    $effect(() => {
      void this.turn
      const body = this.requestText
      this.progress = undefined
      this.records = []
      this.problem = undefined
      if (body === '') return
      const gone = new AbortController()
      void this.run(body, gone.signal)
      return () => gone.abort()
    })
  }

  private written(): string {
    const request = this.make()
    return request === null ? '' : encode(request)
  }

  get isOver(): boolean {
    const status = this.progress?.status
    return status === 'done' || status === 'cancelled' || status === 'failed'
  }

  again(): void {
    this.turn += 1
  }

  /** Ends it. What it has found stays. */
  async cancel(): Promise<void> {
    const id = this.progress?.id
    if (id === undefined) return
    try {
      this.progress = await ask<Search>(`/searches/${id}`, { method: 'DELETE' })
    } catch (error) {
      this.problem = error
    }
  }

  private async run(body: string, signal: AbortSignal): Promise<void> {
    let id: string | undefined
    try {
      const headers = { 'content-type': 'application/json' }
      const begun = await ask<Search>('/searches', { method: 'POST', headers, body, signal })
      id = begun.id
      this.progress = begun
      await this.follow(id, signal)
    } catch (error) {
      if (!signal.aborted && !isAbort(error)) this.problem = error
    }
    // Nobody looks any more: the server need not go on. If it cannot be told, it ends by itself.
    if (signal.aborted && id !== undefined) await ask(`/searches/${id}`, { method: 'DELETE' }).catch(() => undefined)
  }

  private async follow(id: string, signal: AbortSignal): Promise<void> {
    let after: string | null = null
    for (;;) {
      const query: { limit: number; after: string | null } = { limit: PAGE, after }
      const results: Results = await ask<Results>(`/searches/${id}/results`, { query, signal })
      if (results.records.length > 0) this.records = [...this.records, ...results.records]
      this.progress = await ask<Search>(`/searches/${id}`, { signal })
      if (results.next === null) return
      after = results.next
      if (results.records.length < PAGE) await pause(LOOK_MS, signal)
    }
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((done, fail) => {
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', () => {
      clearTimeout(timer)
      fail(signal.reason)
    })
  })
}
