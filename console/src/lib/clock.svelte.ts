// One clock for the page, and how moments are written.

import type { Clock } from './format'
import { recall, remember } from './theme.svelte'

const KEY = 'courant.clock'
const CLOCKS: readonly Clock[] = ['utc', 'local', 'relative']

class PageClock {
  /** Milliseconds since 1970, once a second: "12 s ago" goes on by itself. */
  now = $state(Date.now())
  choice = $state<Clock>(CLOCKS.find((clock) => clock === recall(KEY)) ?? 'utc')

  constructor() {
    setInterval(() => {
      if (!document.hidden) this.now = Date.now()
    }, 1000)
  }

  choose(clock: Clock): void {
    this.choice = clock
    remember(KEY, clock)
  }
}

export const clock = new PageClock()
