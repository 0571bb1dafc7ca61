// Whether the server answers. Screens keep what they have while it does not, and ask again when it does.

import type { Health } from './api/types'
import { parse, plain } from './json'

export type Standing = 'unknown' | 'here' | 'away'

const LOOK_MS = 5000
/** While the server is away it is looked for more often. */
const SEARCH_MS = 1000
const PATIENCE_MS = 4000

const TOKEN = 'courant.token'

class ServerState {
  standing = $state<Standing>('unknown')
  /** Since when the server is away, in milliseconds since 1970. */
  since = $state(0)
  /** A number that grows whenever the server came back: who reads it asks again. */
  returned = $state(0)
  health = $state.raw<Health | undefined>()
  /** A credential is wanted. */
  isLocked = $state(false)
  token = $state(sessionToken())
  private timer = 0

  lost(): void {
    if (this.standing === 'away') return
    this.standing = 'away'
    this.since = Date.now()
    this.schedule(SEARCH_MS)
  }

  found(): void {
    if (this.standing === 'away') this.returned += 1
    this.standing = 'here'
  }

  locked(): void {
    this.isLocked = true
  }

  /** Sends this credential from now on. It is forgotten when the tab is closed. */
  unlock(token: string): void {
    this.token = token
    this.isLocked = false
    this.returned += 1
    try {
      sessionStorage.setItem(TOKEN, token)
    } catch {
      // No storage: it holds until the page is closed.
    }
  }

  get isReadOnly(): boolean {
    return this.health?.read_only ?? false
  }

  start(): void {
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) this.schedule(0)
    })
    this.schedule(0)
  }

  private schedule(ms: number): void {
    clearTimeout(this.timer)
    this.timer = setTimeout(() => void this.look(), ms) as unknown as number
  }

  private async look(): Promise<void> {
    if (document.hidden) return
    try {
      // 503 has the same body: the server answers, and does not serve.
      const response = await fetch('/api/v1/health', { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE_MS) })
      this.health = plain(parse(await response.text())) as Health
      this.found()
    } catch {
      this.lost()
    }
    this.schedule(this.standing === 'away' ? SEARCH_MS : LOOK_MS)
  }
}

function sessionToken(): string {
  try {
    return sessionStorage.getItem(TOKEN) ?? ''
  } catch {
    return ''
  }
}

export const server = new ServerState()
