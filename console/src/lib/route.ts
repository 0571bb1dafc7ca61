// Addresses of the console. Each screen has one, so that what is seen can be sent to somebody.

import type { Int } from './json'

export type TopicTab = 'messages' | 'live' | 'publish' | 'partitions' | 'groups' | 'config'

export const TOPIC_TABS: readonly TopicTab[] = ['messages', 'live', 'publish', 'partitions', 'groups', 'config']

export type Route =
  | { screen: 'overview' }
  | { screen: 'demo' }
  | { screen: 'topics' }
  | { screen: 'topic'; topic: string; tab: TopicTab }
  | { screen: 'event'; topic: string; partition: number; offset: string }
  | { screen: 'groups' }
  | { screen: 'group'; group: string }
  | { screen: 'dlq'; service: string | null }
  | { screen: 'failure'; service: string; group: string }
  | { screen: 'letter'; service: string; letter: string }
  | { screen: 'redrive'; service: string; redrive: string }
  | { screen: 'foreign'; topic: string }
  | { screen: 'traces' }
  | { screen: 'trace'; id: string }
  | { screen: 'settings' }
  | { screen: 'nowhere'; path: string }

/** The route of a path. Whatever it is, there is a screen for it. */
export function match(path: string): Route {
  const nowhere: Route = { screen: 'nowhere', path }
  let parts: string[]
  try {
    parts = path
      .split('/')
      .filter((part) => part !== '')
      .map(decodeURIComponent)
  } catch {
    return nowhere
  }
  const [first, second, third, fourth] = parts
  if (parts.length === 0) return { screen: 'overview' }
  if (parts.length === 1 && first === 'demo') return { screen: 'demo' }
  if (parts.length === 1 && first === 'topics') return { screen: 'topics' }
  if (parts.length === 1 && first === 'groups') return { screen: 'groups' }
  if (parts.length === 1 && first === 'settings') return { screen: 'settings' }
  if (first === 'topics' && second !== undefined && parts.length <= 3) {
    const tab = TOPIC_TABS.find((tab) => tab === (third ?? 'messages'))
    return tab ? { screen: 'topic', topic: second, tab } : nowhere
  }
  if (first === 'groups' && second !== undefined && parts.length === 2) return { screen: 'group', group: second }
  if (first === 'dlq') return deadLetters(parts) ?? nowhere
  if (first === 'foreign' && second !== undefined && parts.length === 2) return { screen: 'foreign', topic: second }
  if (first === 'traces' && parts.length === 1) return { screen: 'traces' }
  if (first === 'trace' && second !== undefined && parts.length === 2) return { screen: 'trace', id: second }
  if (first === 'e' && parts.length === 4 && second !== undefined) {
    const isPlace = /^\d{1,9}$/.test(third ?? '') && /^\d{1,20}$/.test(fourth ?? '')
    return isPlace ? { screen: 'event', topic: second, partition: Number(third), offset: String(fourth) } : nowhere
  }
  return nowhere
}

function deadLetters([, service, second, third, ...more]: string[]): Route | null {
  if (more.length > 0) return null
  if (service === undefined) return { screen: 'dlq', service: null }
  if (second === undefined) return { screen: 'dlq', service }
  if (third === undefined) return { screen: 'failure', service, group: second }
  if (second === 'letters') return /^\d{1,19}$/.test(third) ? { screen: 'letter', service, letter: third } : null
  return second === 'redrives' ? { screen: 'redrive', service, redrive: third } : null
}

/** The path of a route. */
export function href(route: Route, query: Record<string, string | undefined> = {}): string {
  const path = pathOf(route)
  const asked = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== '') asked.set(name, value)
  }
  return asked.size > 0 ? `${path}?${asked}` : path
}

function pathOf(route: Route): string {
  switch (route.screen) {
    case 'overview':
      return '/'
    case 'topic': {
      const topic = `/topics/${encodeURIComponent(route.topic)}`
      return route.tab === 'messages' ? topic : `${topic}/${route.tab}`
    }
    case 'event':
      return `/e/${encodeURIComponent(route.topic)}/${route.partition}/${route.offset}`
    case 'group':
      return `/groups/${encodeURIComponent(route.group)}`
    case 'dlq':
      return route.service === null ? '/dlq' : `/dlq/${encodeURIComponent(route.service)}`
    case 'failure':
      return `/dlq/${encodeURIComponent(route.service)}/${encodeURIComponent(route.group)}`
    case 'letter':
      return `/dlq/${encodeURIComponent(route.service)}/letters/${route.letter}`
    case 'redrive':
      return `/dlq/${encodeURIComponent(route.service)}/redrives/${encodeURIComponent(route.redrive)}`
    case 'foreign':
      return `/foreign/${encodeURIComponent(route.topic)}`
    case 'trace':
      return `/trace/${encodeURIComponent(route.id)}`
    case 'nowhere':
      return route.path
    default:
      return `/${route.screen}`
  }
}

/** What stands in the window's title, the most telling first. */
export function title(route: Route): string {
  switch (route.screen) {
    case 'overview':
      return 'Overview'
    case 'topic':
      return `${route.topic} · ${route.tab === 'messages' ? 'events' : route.tab}`
    case 'event':
      return `${route.topic}/${route.partition}@${route.offset}`
    case 'group':
      return `${route.group} · group`
    case 'dlq':
      return route.service === null ? 'Dead letters' : `${route.service} · dead letters`
    case 'failure':
      return `${route.group} · ${route.service} · failure`
    case 'letter':
      return `letter ${route.letter} · ${route.service}`
    case 'redrive':
      return `redrive · ${route.service}`
    case 'foreign':
      return `${route.topic} · foreign dead letters`
    case 'trace':
      return `${route.id} · trace`
    case 'nowhere':
      return 'Not found'
    default:
      return route.screen[0]?.toUpperCase() + route.screen.slice(1)
  }
}

/** The address of one event. */
export function eventHref(topic: string, partition: number, offset: Int): string {
  return href({ screen: 'event', topic, partition, offset: String(offset) })
}
