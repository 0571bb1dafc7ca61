// Where the page is: the browser's own address, and nothing beside it.

import { tick } from 'svelte'
import { match, title, type Route } from './route'

class Router {
  path = $state(location.pathname)
  private search = $state(location.search)
  route: Route = $derived(match(this.path))
  query = $derived(new URLSearchParams(this.search))

  constructor() {
    addEventListener('popstate', () => this.look())
    document.addEventListener('click', (event) => this.click(event))
    $effect.root(() => {
      $effect(() => {
        document.title = `${title(this.route)} · Courant`
      })
    })
  }

  /** Goes to an address, as a link would. */
  go(to: string): void {
    if (to === location.pathname + location.search) return
    history.pushState(null, '', to)
    const before = this.path
    this.look()
    if (this.path !== before) void this.arrive()
  }

  /** Puts a part of the screen's state into the address. Going back leads to the screen before. */
  set(changes: Record<string, string | null>): void {
    const query = new URLSearchParams(location.search)
    for (const [name, value] of Object.entries(changes)) {
      if (value === null || value === '') query.delete(name)
      else query.set(name, value)
    }
    const search = query.size > 0 ? `?${query}` : ''
    history.replaceState(null, '', location.pathname + search + location.hash)
    this.look()
  }

  private look(): void {
    this.path = location.pathname
    this.search = location.search
  }

  /** A new screen: whoever listens to the page hears its heading. */
  private async arrive(): Promise<void> {
    await tick()
    document.getElementById('main')?.scrollTo(0, 0)
    document.querySelector<HTMLElement>('h1')?.focus({ preventScroll: true })
  }

  private click(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0) return
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return
    const link = event.target instanceof Element ? event.target.closest('a') : null
    if (!link || link.target || link.hasAttribute('download') || link.origin !== location.origin) return
    if (link.pathname.startsWith('/api/')) return
    // A place on this screen is the browser's own business.
    if (link.hash && link.pathname === location.pathname) return
    event.preventDefault()
    this.go(link.pathname + link.search)
  }
}

export const router = new Router()
