import { expect, it } from 'vitest'
import { forest, inOrder, inTime, type TraceNode } from './forest'
import type { ListedTrace, TracedEvent } from '../api/traces'
import { rowOf, traceHref, unopened } from './listed'
import { nodesOf } from './model'
import { ROW, sequence } from './sequence'
import { draw } from './draw'
import { NODE_HEIGHT, NODE_WIDTH } from './drawn'

const node = (id: string, cause: string | null, at: number | null = 0, producer: string | null = 'shop'): TraceNode => ({
  id, type: `t.${id}`, at, producer, cause, isMissing: false,
})
const ids = (placed: readonly { node: TraceNode }[]): string => placed.map(({ node }) => node.id).join(' ')

it('has each cause before its effects, and the first branch before the second', () => {
  const roots = forest([node('c', 'a', 30), node('a', null, 10), node('b', 'a', 20), node('d', 'b', 40)])
  expect(ids(inOrder(roots))).toBe('a b d c')
  expect(inOrder(roots).map(({ depth }) => depth)).toEqual([0, 1, 2, 1])
  expect(ids(inTime(roots))).toBe('a b c d')
})

it('loses no event, whatever their causes say', () => {
  const nodes = [node('a', 'c'), node('b', 'a'), node('c', 'b'), node('self', 'self'), node('orphan', 'gone'), node('a', null)]
  expect(inOrder(forest(nodes)).map(({ node }) => node.id).toSorted()).toEqual(['a', 'b', 'c', 'orphan', 'self'])
})

it('puts a cause first where the clocks of two machines disagree', () => {
  const roots = forest([node('late', null, 100), node('early', 'late', 90), node('other', null, 95)])
  expect(ids(inTime(roots))).toBe('other late early')
})

it('puts a cause of which only others speak right before its first effect', () => {
  const missing = { ...node('gone', null, null), isMissing: true }
  expect(ids(inOrder(forest([missing, node('first', null, 5), node('effect', 'gone', 10)])))).toBe('first gone effect')
})

it('goes as deep as a chain of ten thousand', () => {
  const chain = Array.from({ length: 10_000 }, (_, at) => node(`n${at}`, at === 0 ? null : `n${at - 1}`, at))
  const roots = forest(chain)
  expect(inOrder(roots).at(-1)?.depth).toBe(9999)
  expect(inTime(roots)).toHaveLength(10_000)
})

it('draws a cause left of its effects, and no two events on one place', () => {
  const many = Array.from({ length: 500 }, (_, at) => node(`n${at}`, at === 0 ? null : `n${Math.floor(at / 3)}`, at))
  const drawn = draw(forest(many))
  const at = new Map(drawn.boxes.map((box) => [box.placed.node.id, box]))
  expect(at.size).toBe(500)
  expect(drawn.lines).toHaveLength(499)
  for (const { from, to } of drawn.lines) expect((at.get(from)?.x ?? 0) + NODE_WIDTH).toBeLessThan(at.get(to)?.x ?? 0)
  const boxes = drawn.boxes.toSorted((a, b) => a.x - b.x || a.y - b.y)
  for (const [index, box] of boxes.entries()) {
    const before = boxes[index - 1]
    if (before?.x === box.x) expect(box.y - before.y).toBeGreaterThanOrEqual(NODE_HEIGHT)
  }
}, 60_000)

it('draws the effects of a cause in their order, the first one on top', () => {
  const nodes = [node('a', null), ...[1, 2, 3, 4].map((at) => node(`b${at}`, 'a', at)), ...[1, 2, 3].map((at) => node(`c${at}`, 'b2', at + 10))]
  const { boxes } = draw(forest(nodes))
  const from = (letter: string): string => ids(boxes.filter((box) => box.placed.node.id.startsWith(letter)).toSorted((a, b) => a.y - b.y).map((box) => box.placed))
  expect([from('b'), from('c')]).toEqual(['b1 b2 b3 b4', 'c1 c2 c3'])
})

it('draws nothing where nothing is, and one event alone', () => {
  expect(draw(forest([])).boxes).toEqual([])
  expect(draw(forest([node('a', null)])).boxes).toHaveLength(1)
})

it('gives each publisher a lane and each event a row, and writes idle times down', () => {
  const day = 86_400_000
  const nodes = [
    node('placed', null, 1000, 'shop'),
    node('paid', 'placed', 1040, 'payments'),
    node('shipped', 'paid', 1040 + day, 'shipping'),
    node('noted', 'shipped', null, null),
  ]
  const { lanes, rows, idles, height } = sequence(forest(nodes))
  expect(lanes).toEqual(['shop', 'payments', 'shipping', null])
  expect(rows.map((row) => [row.from, row.lane, row.sinceFirst])).toEqual([[null, 0, 0], [0, 1, 40], [1, 2, 40 + day], [2, 3, null]])
  expect(idles).toEqual([{ y: (rows[1]?.y ?? 0) + ROW, ms: day }])
  expect(height).toBeLessThan(200)
})

const traced = (n: number, parent: number | null, more: Partial<TracedEvent> = {}): TracedEvent => ({
  n, parent, parent_state: parent === null ? 'root' : 'known', depth: 0, kind: 'event', event_id: `e${n}`, type: 'order.placed',
  source: 'shop', topic: 'orders', partition: 0, offset: 9007199254740993n, time: '2026-11-30T01:15:00.456Z', key: null,
  correlation_id: null, causation_id: null, size: 1, duplicate: false, dead_letter: null, gone: null, ...more,
})

it('shows a cause that nobody knows once, however many pages name it', () => {
  const events = [traced(0, null, { parent_state: 'unknown' }), traced(1, 0), traced(2, null, { parent_state: 'unknown' })]
  const nodes = nodesOf(events, [{ event_id: 'x', children: [0] }, { event_id: 'x', children: [2] }])
  expect(inOrder(forest(nodes)).map(({ node, depth }) => [node.id, node.isMissing, depth])).toEqual([
    ['missing:x', true, 0], ['0', false, 1], ['1', false, 2], ['2', false, 1],
  ])
})

it('gives a dead letter to who could not handle it, and a name to what has none', () => {
  const failure = { consumer: 'billing', attempts: 5, error_type: 'Declined', error: null, topic: null, partition: null, offset: null }
  const nodes = nodesOf([traced(0, null, { kind: 'dead_letter', dead_letter: failure }), traced(1, 0, { kind: 'gone', type: null, time: null })], [])
  expect(nodes.map(({ producer, type, at }) => [producer, type, at === null])).toEqual([['billing', 'order.placed', false], ['shop', 'deleted event', true]])
})

// Symptom: traces whose ids nobody can ask for were shown as if their records were gone, and two of them as one. Cause:
// no id meant that. Fix: where the record of the root is there, it is said that the id is too long, and its place counts.
it('tells traces apart that cannot be opened, and says why', () => {
  const listed = (id: string | null, offset: number | null): ListedTrace => ({
    id, joined_by: null, events: 1, dead_letters: 0, first: null, last: null, begins_before: false,
    root: offset === null ? null : { type: null, source: null, topic: 'orders', partition: 0, offset, key: null },
  })
  expect(rowOf(listed('a', 1))).toBe('a')
  expect(rowOf(listed(null, 1))).not.toBe(rowOf(listed(null, 2)))
  expect(unopened(listed(null, 1)).word).toBe('its id is too long')
  expect(unopened(listed(null, null)).word).toBe('its record is gone')
})

// Symptom: the overview left traces with dead letters out that have no id, and would have linked to an empty one. Cause:
// it had a link for each. Fix: where nobody can ask for a trace, there is none, and it is said why, as in the list.
it('leads to a trace that can be asked for, and to no other', () => {
  const listed = (id: string | null): ListedTrace => ({
    id, joined_by: null, events: 1, dead_letters: 1, first: null, last: null, begins_before: false, root: null,
  })
  expect(traceHref(listed('a b'))).toBe('/trace/a%20b')
  expect(traceHref(listed(null))).toBe(null)
  expect(traceHref(listed(''))).toBe(null)
})
