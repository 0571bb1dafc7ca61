import { expect, it } from 'vitest'
import { Rates } from './rates'

const topic = (name: string, events: number | bigint, id = name): { name: string; id: string; events: number | bigint } => ({ name, id, events })

it('is unknown at the first look, and never 0', () => {
  expect(new Rates().note([topic('a', 5)], 1000).total).toBeNull()
})

it('is what came between two looks', () => {
  const rates = new Rates()
  rates.note([topic('a', 9007199254740993n), topic('b', 7), topic('c', 100)], 1000)
  const found = rates.note([topic('a', 9007199254740999n), topic('b', 7), topic('c', 40), topic('new', 50)], 3000)
  expect(found.total).toBe(3)
  expect([...found.byName]).toEqual([['a', 3], ['b', 0], ['c', 0], ['new', 0]])
  expect(found.series).toEqual([3])
})

it('does not take a topic that was made again for the old one', () => {
  const rates = new Rates()
  rates.note([topic('a', 1000, 'old')], 0)
  expect(rates.note([topic('a', 10, 'new')], 1000).total).toBe(10)
})
