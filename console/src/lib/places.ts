// Where reading begins: what people choose, and the words that the API and `courant tail` have for it.

export type Start = 'newest' | 'oldest' | 'offset' | 'time'

export const STARTS: readonly Start[] = ['newest', 'oldest', 'offset', 'time']

/** What is chosen, as one word of an address: `newest`, `oldest`, `1234` or `@-10m`. */
export function parsePlace(word: string): { start: Start; text: string } {
  if (word === 'oldest') return { start: 'oldest', text: '' }
  if (/^\d+$/.test(word)) return { start: 'offset', text: word }
  if (word.startsWith('@')) return { start: 'time', text: word.slice(1) }
  return { start: 'newest', text: '' }
}

export function writePlace(start: Start, text: string): string {
  const trimmed = text.trim()
  if (start === 'offset') return trimmed
  if (start === 'time') return `@${timeWord(trimmed)}`
  return start
}

/** A time as the API has it: `10m` is ten minutes ago, and a date of a day is its beginning in UTC. */
export function timeWord(text: string): string {
  const trimmed = text.trim()
  if (/^\d+(ms|s|m|min|h|d|w)$/.test(trimmed)) return `-${trimmed}`
  if (/^\d{4}-\d\d-\d\d$/.test(trimmed)) return `${trimmed}T00:00:00Z`
  const moment = /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d)(:\d\d(?:\.\d+)?)?(Z|[+-]\d\d:\d\d)?$/.exec(trimmed)
  if (moment) return `${moment[1]}T${moment[2]}${moment[3] ?? ':00'}${moment[4] ?? 'Z'}`
  return trimmed
}

/** A number of a time that is less, and not 0, is taken for seconds by the API, and refused: it would be before 1973. */
const SECONDS_BELOW = 100_000_000_000

/** Whether the API would understand it. */
export function isPlace(start: Start, text: string): boolean {
  const trimmed = text.trim()
  if (start === 'offset') return /^\d{1,20}$/.test(trimmed) && BigInt(trimmed) <= 18446744073709551615n
  if (start !== 'time') return true
  const word = timeWord(trimmed)
  if (/^-\d+(ms|s|m|min|h|d|w)$/.test(word)) return true
  if (/^\d{1,15}$/.test(word)) return Number(word) === 0 || Number(word) >= SECONDS_BELOW
  return /^\d{4}-.*(Z|[+-]\d\d:\d\d)$/.test(word) && !Number.isNaN(Date.parse(word))
}

/** Numbers of partitions with commas between; null: something else. Nothing at all is all of them. */
export function parsePartitions(text: string): number[] | null {
  if (text.trim() === '') return []
  const words = text.split(',').map((word) => word.trim())
  if (!words.every((word) => /^\d{1,9}$/.test(word))) return null
  return [...new Set(words.map(Number))]
}

/** The `from` of the API. The newest are so many of each partition. */
export function fromOf(place: string, rows: number, partitions: number): string {
  if (place === 'newest') return `-${Math.max(1, Math.ceil(rows / Math.max(1, partitions)))}`
  return place === 'oldest' ? 'start' : place
}
