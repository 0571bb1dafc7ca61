// Numbers, sizes and times as people read them. What is unknown is said so by who calls: nothing here
// takes null for 0.

import type { Int } from './json'

/** The word for what nobody knows. */
export const UNKNOWN = 'unknown'

/** All digits, in groups of three. */
export function count(value: Int): string {
  const text = typeof value === 'bigint' || Number.isInteger(value) ? String(value) : value.toFixed(1)
  return text.replace(/\B(?=(\d{3})+(?!\d))/g, ',')
}

/** `1` or `3 events`: with the right word. */
export function plural(value: Int, one: string, many = `${one}s`): string {
  return `${count(value)} ${BigInt(Math.trunc(Number(value))) === 1n ? one : many}`
}

const STEPS = ['', ' k', ' M', ' G', ' T', ' P', ' E'] as const

/** Three digits and a unit: for what changes faster than it can be read. */
export function short(value: Int): string {
  let rest = Number(value)
  let step = 0
  while (Math.abs(rest) >= 999.5 && step < STEPS.length - 1) {
    rest /= 1000
    step += 1
  }
  if (step === 0) return Number.isInteger(rest) ? String(rest) : trim(rest.toPrecision(Math.abs(rest) < 1 ? 2 : 3))
  return trim(rest.toPrecision(3)) + STEPS[step]
}

function trim(text: string): string {
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text
}

const BYTES = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'] as const

export function bytes(value: Int): string {
  let rest = Number(value)
  let step = 0
  while (rest >= 1023.5 && step < BYTES.length - 1) {
    rest /= 1024
    step += 1
  }
  return `${step === 0 ? String(rest) : trim(rest.toPrecision(3))} ${BYTES[step]}`
}

/** Events per second. */
export function rate(perSecond: number): string {
  return `${short(perSecond < 10 ? Math.round(perSecond * 10) / 10 : Math.round(perSecond))}/s`
}

/** How long: two units at most, the smaller one of fixed width, so that columns stand still. */
export function duration(seconds: number): string {
  if (seconds < 0) return `−${duration(-seconds)}`
  if (seconds === 0) return '0 s'
  if (seconds < 0.0995) return `${Math.max(1, Math.round(seconds * 1000))} ms`
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`
  const whole = Math.round(seconds)
  if (whole < 60) return `${whole} s`
  const two = (value: number): string => String(value).padStart(2, '0')
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`
  const minutes = Math.round(whole / 60)
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`
  const hours = Math.round(whole / 3600)
  return `${Math.floor(hours / 24)} d ${two(hours % 24)} h`
}

export type Trend = 'growing' | 'shrinking' | 'steady'

/** Where a lag is going. Less than one event in ten minutes is no direction. */
export function trend(eventsPerMinute: number): Trend {
  if (eventsPerMinute > 0.1) return 'growing'
  return eventsPerMinute < -0.1 ? 'shrinking' : 'steady'
}

/** When a lag that shrinks is gone; null when it does not. */
export function caughtUpIn(events: Int, eventsPerMinute: number): number | null {
  return eventsPerMinute < -0.1 ? (Number(events) / -eventsPerMinute) * 60 : null
}

export type Clock = 'utc' | 'local' | 'relative'

/** The furthest moment from 1970 that a `Date` has, either way, in milliseconds. */
export const MOMENT_MAX = 8.64e15

/** The word for a time that there is none of, or that no clock has. */
export const NO_TIME = 'no time'

/**
 * Milliseconds since 1970 that a `Date` has; null: there is no such time. Whoever may write an event says its time, in
 * 64 bits, and a `Date` of what is further away throws.
 */
export function dateable(ms: Int | null): number | null {
  const at = ms === null ? NaN : Number(ms)
  return Math.abs(at) <= MOMENT_MAX ? at : null
}

/** A moment, to the millisecond. */
export function moment(ms: number, clock: Clock, now: number): string {
  if (dateable(ms) === null) return NO_TIME
  if (clock === 'relative') return ago(ms, now)
  if (clock === 'utc') return new Date(ms).toISOString().replace('T', ' ').replace('Z', '')
  const at = new Date(ms)
  const two = (value: number): string => String(value).padStart(2, '0')
  const date = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`
  return `${date} ${time}.${String(at.getMilliseconds()).padStart(3, '0')}`
}

export function ago(ms: number, now: number): string {
  const seconds = (now - ms) / 1000
  // Clocks differ: a moment ahead is now.
  if (Math.abs(seconds) < 1) return 'now'
  return seconds < 0 ? `in ${duration(-seconds)}` : `${duration(seconds)} ago`
}

/** `+02:00`, for who reads local times. */
export function zone(at: Date): string {
  const minutes = -at.getTimezoneOffset()
  const two = (value: number): string => String(value).padStart(2, '0')
  const size = Math.abs(minutes)
  return `${minutes < 0 ? '−' : '+'}${two(Math.floor(size / 60))}:${two(size % 60)}`
}

/** The last two parts of each Rust path in a text: `shipping::UnknownCountry`. What stands before them is the crate's own affair. */
export function shortPath(text: string): string {
  return text.replace(/(?:[\p{L}\p{N}_]+::)+([\p{L}\p{N}_]+::[\p{L}\p{N}_]+)/gu, '$1')
}

/** One line of a text of any length, with what would break the line made visible. */
export function line(text: string, max = 300): string {
  const cut = text.length > max ? `${text.slice(0, max)}…` : text
  return cut.replace(/\r?\n/g, ' ⏎ ').replace(/\t/g, ' ')
}
