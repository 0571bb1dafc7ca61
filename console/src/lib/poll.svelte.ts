// Asks again and again, while somebody looks.

import { untrack } from 'svelte'
import { isAbort } from './api/client'
import { server } from './server.svelte'

type Job<T> = (signal: AbortSignal) => Promise<T>

/** What was last answered, and what is wrong with asking now. */
export class Poll<T> {
  data = $state.raw<T | undefined>()
  problem = $state.raw<unknown>()
  /** When `data` came, in milliseconds since 1970. */
  at = $state(0)
  isAsking = $state(false)
  private asked = $state(0)

  /**
   * `make` reads what the question depends on and hands back the question; null: there is none now. It is
   * asked at once, when anything that `make` read changes, when the server comes back, and every `ms`,
   * which may depend on what was answered.
   */
  constructor(make: () => Job<T> | null, ms: number | null | ((data: T | undefined) => number)) {
    $effect(() => {
      const job = make()
      void server.returned
      void this.asked
      if (!job) return
      const gone = new AbortController()
      let timer = 0
      const round = async (): Promise<void> => {
        if (document.hidden && this.data !== undefined) return
        this.isAsking = true
        try {
          this.data = await job(gone.signal)
          this.problem = undefined
          this.at = Date.now()
        } catch (error) {
          if (gone.signal.aborted || isAbort(error)) return
          this.problem = error
        }
        this.isAsking = false
        if (ms === null) return
        const next = typeof ms === 'number' ? ms : ms(this.data)
        timer = setTimeout(() => void round(), next) as unknown as number
      }
      const onShown = (): void => {
        clearTimeout(timer)
        if (!document.hidden) void round()
      }
      // What the round itself reads is no reason to ask again.
      untrack(() => void round())
      if (ms !== null) document.addEventListener('visibilitychange', onShown)
      return () => {
        gone.abort()
        clearTimeout(timer)
        document.removeEventListener('visibilitychange', onShown)
      }
    })
  }

  again(): void {
    this.asked += 1
  }
}
