import { expect, it } from 'vitest'
import { ago, bytes, caughtUpIn, count, dateable, duration, line, moment, plural, rate, short, shortPath, trend } from './format'

it('writes counts with all their digits', () => {
  expect(count(0)).toBe('0')
  expect(count(999)).toBe('999')
  expect(count(1204331)).toBe('1,204,331')
  expect(count(18446744073709551615n)).toBe('18,446,744,073,709,551,615')
  expect(count(-1234)).toBe('-1,234')
  expect(plural(1, 'event')).toBe('1 event')
  expect(plural(1n, 'event')).toBe('1 event')
  expect(plural(0, 'event')).toBe('0 events')
  expect(plural(2, 'entry', 'entries')).toBe('2 entries')
})

it('shortens what changes faster than it can be read', () => {
  expect([0, 7, 999, 1000, 12345, 999_499, 999_500, 8_400_000].map(short)).toEqual([
    '0', '7', '999', '1 k', '12.3 k', '999 k', '1 M', '8.4 M',
  ])
  expect(short(18446744073709551615n)).toBe('18.4 E')
  expect([0, 0.24, 9.96, 1234].map(rate)).toEqual(['0/s', '0.2/s', '10/s', '1.23 k/s'])
  expect([0, 512, 1023, 1024, 1536, 1024 ** 3].map(bytes)).toEqual([
    '0 B', '512 B', '1023 B', '1 KiB', '1.5 KiB', '1 GiB',
  ])
})

it('writes a lag in time with two units at most', () => {
  const cases: [number, string][] = [
    [0, '0 s'],
    [0.0004, '1 ms'],
    [0.004, '4 ms'],
    [0.04, '40 ms'],
    [0.0994, '99 ms'],
    [0.0996, '0.1 s'],
    [0.25, '0.3 s'],
    [9.94, '9.9 s'],
    [9.96, '10 s'],
    [59.4, '59 s'],
    [59.6, '1 min 00 s'],
    [61, '1 min 01 s'],
    [3599.6, '1 h 00 min'],
    [3725, '1 h 02 min'],
    [86_399, '1 d 00 h'],
    [4 * 86_400 + 3 * 3600, '4 d 03 h'],
    [-3, '−3.0 s'],
  ]
  for (const [seconds, text] of cases) expect(duration(seconds), String(seconds)).toBe(text)
})

it('keeps the end of a Rust path, where its name is', () => {
  const cases: [string, string][] = [
    ['courant::commands::demo::shop::shipping::UnknownCountry', 'shipping::UnknownCountry'],
    ['shipping::UnknownCountry', 'shipping::UnknownCountry'],
    ['UnknownCountry', 'UnknownCountry'],
    ['alloc::boxed::Box<dyn core::error::Error>', 'boxed::Box<dyn error::Error>'],
    ['shop::shipping::ship::{{closure}}', 'shipping::ship::{{closure}}'],
    ['org.apache.kafka.common.errors.SerializationException', 'org.apache.kafka.common.errors.SerializationException'],
    ['', ''],
  ]
  for (const [path, text] of cases) expect(shortPath(path), path).toBe(text)
})

it('says where a lag is going', () => {
  expect([120, 0.05, -0.05, -3].map(trend)).toEqual(['growing', 'steady', 'steady', 'shrinking'])
  expect(caughtUpIn(600, -60)).toBe(600)
  expect(caughtUpIn(600, 0)).toBeNull()
  expect(caughtUpIn(600, 5)).toBeNull()
})

it('writes moments to the millisecond', () => {
  const at = Date.UTC(2026, 0, 31, 8, 0, 0, 120)
  expect(moment(at, 'utc', at)).toBe('2026-01-31 08:00:00.120')
  expect(moment(at, 'local', at)).toMatch(/^2026-01-3\d \d\d:\d\d:00\.120$/)
  expect(moment(at, 'relative', at + 90_000)).toBe('1 min 30 s ago')
  expect(ago(at, at + 300)).toBe('now')
  expect(ago(at + 60_000, at)).toBe('in 1 min 00 s')
})

// Symptom: one time beyond what a `Date` has, which whoever may write an event can say, and the page was gone. Cause:
// `toISOString` throws, and so does a `Date` of a bigint. Fix: it is shown as no time.
it('takes no time for a moment that no clock has', () => {
  const last = 8.64e15
  expect([0, -1, 8_640_000_000_000_000n, last, -last].map(dateable)).toEqual([0, -1, last, last, -last])
  for (const none of [null, NaN, Infinity, last + 1, -last - 1, 9223372036854775807n, -9223372036854775808n]) {
    expect(dateable(none), String(none)).toBeNull()
  }
  expect(moment(last, 'utc', 0)).toBe('+275760-09-13 00:00:00.000')
  for (const choice of ['utc', 'local', 'relative'] as const) expect(moment(last + 1, choice, 0)).toBe('no time')
})

it('keeps one line one line', () => {
  expect(line('a\nb\tc\r\nd')).toBe('a ⏎ b c ⏎ d')
  expect(line('x'.repeat(400))).toHaveLength(301)
})
