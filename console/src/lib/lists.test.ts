import { expect, it } from 'vitest'
import { named, sorted } from './lists'

const ROWS = [
  { name: 'b', lag: 5 as number | bigint | null },
  { name: 'A', lag: null },
  { name: 'c', lag: 9007199254740993n },
  { name: 'd', lag: 9007199254740992n },
  { name: 'e', lag: 0 },
]
const by = (sort: string): string =>
  sorted(ROWS, sort, (row, name) => (name === 'lag' ? row.lag : row.name))
    .map((row) => row.name)
    .join('')

it('sorts exactly, and puts what is unknown last both ways', () => {
  expect(by('lag')).toBe('ebdcA')
  expect(by('-lag')).toBe('cdbeA')
  expect(by('name')).toBe('Abcde')
})

it('filters by a part of the name', () => {
  expect(named(ROWS, ' a ').map((row) => row.name)).toEqual(['A'])
  expect(named(ROWS, '')).toHaveLength(5)
})
