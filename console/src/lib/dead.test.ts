import { beforeAll, expect, it, vi } from 'vitest'
import type { Redrive, WholeLetter } from './api/dead-letters'
import { changes } from './changes'
import { parse } from './json'

vi.mock('./server.svelte', () => ({ server: { token: '' } }))

let dead: typeof import('./dead')
beforeAll(async () => {
  vi.stubGlobal('location', { hostname: '127.0.0.1', origin: 'http://127.0.0.1:8080' })
  dead = await import('./dead')
})

const redrive: Redrive = {
  id: 'x', state: 'running', requested_by: 'grace', requested_ms: 1, finished_ms: null, filter: '', letters: 8, pending: 2,
  delivering: 1, handled: 4, failed: 1, cancelled: 0,
}

it('says what a redrive has made of its letters, the worst first', () => {
  expect(dead.summary(redrive)).toBe('8 letters: 1 failed again, 4 handled, 1 on their way, 2 wait')
  expect(dead.shareOver(redrive)).toBeCloseTo(5 / 8)
  expect(dead.shareOver({ ...redrive, letters: 0, pending: 0, delivering: 0 })).toBe(1)
})

it('writes the same thing for a shell', () => {
  const which = { consumer: 'billing', group: '56804b16' }
  expect(dead.redriveCli('billing', which, 10, true)).toBe(
    'courant dlq redrive --consumer billing --group 56804b16 --rate 10 --dry-run --engine courant://127.0.0.1:9092 --service billing --key-file billing.key',
  )
  expect(dead.closeCli('discard', 'billing', { letters: [9007199254740993n] }, "grace's", false)).toBe(
    "courant dlq discard 9007199254740993 --reason 'grace'\\''s' --engine courant://127.0.0.1:9092 --service billing --key-file billing.key",
  )
  expect(dead.redriveCli('billing', { all: true }, null, false)).toContain('redrive --all --engine')
})

it('knows what waits behind a letter, where its key is a text', () => {
  const whole = (blocks_key: boolean, record: object | null): WholeLetter =>
    ({ service: 'billing', letter: { consumer: 'billing', generation: 2, topic: 'orders', partition: 3, blocks_key }, record }) as unknown as WholeLetter
  const which = { consumer: 'billing', generation: 2, topic: 'orders', partition: 3, key: '-a b' }
  expect(dead.behind(whole(true, { key: '-a b' }))).toEqual(which)
  expect(dead.behind(whole(true, { key: '' }))?.key).toBe('')
  expect(dead.behind(whole(false, { key: 'a' }))).toBe(null)
  for (const record of [null, { key: null }, { key: 'AP8=', key_encoding: 'base64' }, { key: 'aaa', key_truncated: true }]) {
    expect(dead.behind(whole(true, record))).toBe(null)
  }
  expect(dead.parkedCli('billing', which, '')).toBe(
    "courant dlq discard-parked --consumer billing --generation 2 --topic orders --partition 3 '--key=-a b' --reason why --yes --engine courant://127.0.0.1:9092 --service billing --key-file billing.key",
  )
  expect(dead.parkedCli('billing', { ...which, generation: 1 }, 'gone')).not.toContain('generation')
})

it('says what stays parked, and whether there is more', () => {
  const answer = { service: 'billing', dry_run: true, count: 2, letters: 1, has_more: false }
  expect(dead.besides(answer)).toEqual(['1 dead letter of the key stays, and newer events wait behind it: decide about that afterwards.'])
  expect(dead.besides({ ...answer, letters: 0 })).toEqual([])
  expect(dead.besides({ ...answer, letters: 0, has_more: true })).toEqual(['There may be more of them.'])
  expect(dead.besides({ ...answer, dry_run: false, letters: 2, has_more: true })[1]).toContain('ask again')
  expect(dead.atMost(answer)).toEqual({ at_most: 2 })
  expect(dead.atMost({ ...answer, has_more: true })).toEqual({})
})

it('finds what was changed, digit by digit', () => {
  const before = parse('{"id":9007199254740993,"a/b":{"c":[1,2]},"gone":null,"same":"x"}')
  const after = parse('{"id":9007199254740992,"a/b":{"c":[1,3,4]},"same":"x","new":{"y":true}}')
  expect(changes(before, after)).toEqual([
    { at: '/id', before: '9007199254740993', after: '9007199254740992' },
    { at: '/a~1b/c/1', before: '2', after: '3' },
    { at: '/a~1b/c/2', before: undefined, after: '4' },
    { at: '/gone', before: 'null', after: undefined },
    { at: '/new', before: undefined, after: '{"y":true}' },
  ])
  expect(changes(before, before)).toEqual([])
  expect(changes(parse('[]'), parse('{}'))).toEqual([{ at: '', before: '[]', after: '{}' }])
  expect(changes(parse('[1,2,3]'), parse('[]'), 2)).toHaveLength(2)
})
