// Lists that are longer than a page, and how they are filtered and sorted here.

import { ask } from './api/client'
import type { GroupPage, ListedGroup, ListedTopic, TopicPage } from './api/types'
import type { Int } from './json'

/** The most that a page has. */
const PAGE = 1000
/** More than anybody looks through; the filter of the server finds the others. */
const ROWS_MAX = 20_000

export interface Whole<T> {
  rows: T[]
  total: number
}

/** Every topic, page by page; `sofar` is told after each. */
export function allTopics(signal: AbortSignal, sofar: (rows: ListedTopic[]) => void): Promise<Whole<ListedTopic>> {
  return all(async (after) => {
    const page = await ask<TopicPage>('/topics', { query: { limit: PAGE, after }, signal })
    return { rows: page.topics, next: page.next, total: page.total }
  }, sofar)
}

export function allGroups(signal: AbortSignal, sofar: (rows: ListedGroup[]) => void): Promise<Whole<ListedGroup>> {
  return all(async (after) => {
    const page = await ask<GroupPage>('/groups', { query: { limit: PAGE, after }, signal })
    return { rows: page.groups, next: page.next, total: page.total }
  }, sofar)
}

interface Page<T> extends Whole<T> {
  next: string | null
}

async function all<T>(page: (after: string | null) => Promise<Page<T>>, sofar: (rows: T[]) => void): Promise<Whole<T>> {
  let rows: T[] = []
  let after: string | null = null
  for (;;) {
    const found: Page<T> = await page(after)
    rows = rows.concat(found.rows)
    if (found.next === null || rows.length >= ROWS_MAX) return { rows, total: found.total }
    after = found.next
    sofar(rows)
  }
}

/** Rows whose name has the text in it, whatever the case. */
export function named<T extends { name: string }>(rows: readonly T[], filter: string): readonly T[] {
  const wanted = filter.trim().toLowerCase()
  return wanted === '' ? rows : rows.filter((row) => row.name.toLowerCase().includes(wanted))
}

type Sortable = string | Int | boolean | null | undefined

/** Sorted by `name` or `-name`. What is unknown comes last, whichever way. */
export function sorted<T>(rows: readonly T[], sort: string, value: (row: T, name: string) => Sortable): readonly T[] {
  const isDown = sort.startsWith('-')
  const name = isDown ? sort.slice(1) : sort
  const keyed = rows.map((row, index) => ({ row, index, key: value(row, name) }))
  keyed.sort((a, b) => {
    const isUnknown = Number(a.key === null || a.key === undefined) - Number(b.key === null || b.key === undefined)
    if (isUnknown !== 0) return isUnknown
    const order = compare(a.key, b.key)
    return (isDown ? -order : order) || a.index - b.index
  })
  return keyed.map(({ row }) => row)
}

function compare(a: Sortable, b: Sortable): number {
  if (typeof a === 'string' && typeof b === 'string') return a < b ? -1 : a > b ? 1 : 0
  if (a === null || a === undefined || b === null || b === undefined) return 0
  return a < b ? -1 : a > b ? 1 : 0
}
