import { expect, it } from 'vitest'
import { fromOf, isPlace, parsePartitions, parsePlace, timeWord, writePlace } from './places'

it('goes from an address to a choice and back', () => {
  for (const word of ['newest', 'oldest', '9007199254740993', '@-10m', '@2026-01-31T08:00:00Z']) {
    const { start, text } = parsePlace(word)
    expect(writePlace(start, text)).toBe(word)
  }
  expect(parsePlace('nonsense').start).toBe('newest')
})

it('takes times as people type them', () => {
  expect(timeWord('10m')).toBe('-10m')
  expect(timeWord('-10m')).toBe('-10m')
  expect(timeWord('2026-01-31')).toBe('2026-01-31T00:00:00Z')
  expect(timeWord('2026-01-31 08:00')).toBe('2026-01-31T08:00:00Z')
  expect(timeWord('2026-01-31 08:00:01.5')).toBe('2026-01-31T08:00:01.5Z')
  expect(timeWord('2026-01-31T08:00:00+02:00')).toBe('2026-01-31T08:00:00+02:00')
  for (const good of ['10m', '1769846400000', '2026-01-31', '2026-01-31 08:00']) expect(isPlace('time', good)).toBe(true)
  for (const bad of ['', 'soon', '2026-13-45', '8:00']) expect(isPlace('time', bad), bad).toBe(false)
  // Milliseconds: the API refuses what is in seconds.
  for (const good of ['0', '100000000000']) expect(isPlace('time', good), good).toBe(true)
  for (const bad of ['10', '1769846400', '99999999999']) expect(isPlace('time', bad), bad).toBe(false)
})

it('knows what an offset is', () => {
  expect(isPlace('offset', '18446744073709551615')).toBe(true)
  for (const bad of ['18446744073709551616', '-1', '1e3', '']) expect(isPlace('offset', bad), bad).toBe(false)
})

it('reads lists of partitions', () => {
  expect(parsePartitions('')).toEqual([])
  expect(parsePartitions('0, 3,3')).toEqual([0, 3])
  expect(parsePartitions('a')).toBeNull()
  expect(parsePartitions('1,')).toBeNull()
})

it('asks for so many in all, which is some of each partition', () => {
  expect(fromOf('newest', 100, 3)).toBe('-34')
  expect(fromOf('newest', 100, 1)).toBe('-100')
  expect(fromOf('oldest', 100, 3)).toBe('start')
  expect(fromOf('@-10m', 100, 3)).toBe('@-10m')
})
