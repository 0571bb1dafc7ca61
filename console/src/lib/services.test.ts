import { expect, it } from 'vitest'
import type { Service, ServiceInstance, Stall } from './api/dead-letters'
import { consumersOf, crowded, longest, parkedOf, reading, stalledOf, why } from './services'

function instance(name: string, seen_ms: number, consumer: string, events: number | null, more: { full?: boolean; most?: number; state?: 'running' | 'silent'; stalls?: Stall[] } = {}): ServiceInstance {
  const parked = events === null ? null : { keys: 1, events, held: 1, next_due_ms: null }
  const policy = { effects: 'once', concurrency: 8, attempts: 5, exhausted: 'park_key', timeout_ms: 30_000, parked_max: more.most ?? 100 }
  const said = { consumer, generation: 1, topics: ['orders'], event_types: [], policy, passed: 0, parked, full: more.full ?? false, dead: null, partitions: [] }
  return {
    instance: name, state: more.state ?? 'running', code_version: '1', courant_version: '1', engine: 'courant', store: 'SQLite', operations: false, started_ms: 1,
    seen_ms, heartbeat_ms: 10_000, outbox: 0, requests: { applied: 0, refused: 0 }, subscriptions: [said], stalls: more.stalls ?? [],
  }
}

function service(...instances: ServiceInstance[]): Service {
  return {
    service: 'shop', state: 'running', operable: true, not_operable: null, lag_events: 0, lag_seconds: 0, parked_keys: 0, parked_events: 0, dead_letters: 0, outbox: 0,
    seen_ms: 9, instances_running: instances.length, instances_total: instances.length, instances,
  }
}

it('takes the newest word of a consumer, and counts the instances that read nothing more', () => {
  const told = service(
    instance('a', 5, 'billing', 7, { full: true }),
    instance('b', 9, 'billing', 40),
    instance('c', 1, 'billing', 99, { full: true, state: 'silent' }),
    instance('d', 2, 'audit', null, { most: 0 }),
  )
  const consumers = consumersOf(told)
  expect(consumers.map((one) => [one.name, one.running, one.full])).toEqual([['audit', 1, 0], ['billing', 2, 1]])
  expect(consumers.map(parkedOf)).toEqual([null, 41n])
  expect(consumers.map((one) => one.parkedMax)).toEqual([null, 100])
  expect(consumers.map((one) => reading(one)[1])).toEqual(['Reads', 'Full, 1 of 2'])
})

it('names those that have no room, and before that those that will have none', () => {
  const told = service(
    instance('a', 1, 'most', 90),
    instance('a', 1, 'enough', 89),
    instance('a', 1, 'none', 60, { full: true }),
    instance('a', 1, 'quiet', 95, { state: 'silent' }),
  )
  expect(crowded(consumersOf(told)).map((one) => [one.name, reading(one)[1]])).toEqual([
    ['none', 'Full'],
    ['quiet', 'Silent'],
    ['most', 'Nearly full'],
  ])
  // What is not known is not near to anything.
  expect(crowded(consumersOf(service(instance('a', 1, 'unsaid', null))))).toEqual([])
})

it('adds up more than a double has digits for', () => {
  const [huge] = consumersOf(service(instance('a', 1, 'huge', 0)))
  expect(parkedOf({ ...huge!, parked: { keys: 1, events: 9007199254740993n, held: 1, next_due_ms: null } })).toBe(9007199254740994n)
})

function stall(reason: string, since_ms: Stall['since_ms'], more: Partial<Stall> = {}): Stall {
  return { consumer: 'billing', reason, topic: 'orders', partition: 3, since_ms, times: 2, ...more }
}

it('puts together what instances say of one thing that does not go on, and takes no word of a silent one', () => {
  const told = service(
    instance('a', 9, 'billing', 0, { stalls: [stall('unreadable', 700), stall('refused', 900, { consumer: null, topic: 'payments', partition: null })] }),
    instance('b', 9, 'billing', 0, { stalls: [stall('unreadable', 500, { times: 9007199254740993n }), stall('unreadable', 800, { partition: 4 })] }),
    instance('c', 1, 'billing', 0, { state: 'silent', stalls: [stall('unreadable', 100), stall('store_full', 100)] }),
  )
  expect(stalledOf(told).map((one) => [one.consumer, one.reason, one.place, one.since, one.times])).toEqual([
    ['billing', 'unreadable', 'orders/3', 500, 9007199254740995n],
    ['billing', 'unreadable', 'orders/4', 800, 2n],
    [null, 'refused', 'payments', 900, 2n],
  ])
  expect(new Set(stalledOf(told).map((one) => one.id)).size).toBe(3)
  expect(stalledOf(service(instance('a', 1, 'billing', 0)))).toEqual([])
})

it('says of a consumer that it stalls, where it is not full', () => {
  const stalls = [stall('unreadable', 1)]
  const told = service(
    instance('a', 1, 'billing', 0, { stalls }),
    instance('b', 1, 'billing', 0),
    instance('a', 1, 'shipping', 0, { stalls }),
  )
  expect(consumersOf(told).map((one) => reading(one))).toEqual([['warn', 'Stalled, 1 of 2'], ['ok', 'Reads']])
  expect(reading(consumersOf(service(instance('a', 1, 'billing', 0, { stalls, full: true })))[0]!)[1]).toBe('Full')
  expect(reading(consumersOf(service(instance('a', 1, 'billing', 0, { stalls, state: 'silent' })))[0]!)[1]).toBe('Silent')
})

it('stands what has no time behind what has one, and shows a word that it does not know', () => {
  const never = 9223372036854775807n
  const told = service(instance('a', 1, 'billing', 0, { stalls: [stall('of_tomorrow', never), stall('in_doubt', 5), stall('refused', never), stall('refused', 4)] }))
  expect(longest(stalledOf(told)).map((one) => [one.reason, one.since])).toEqual([['refused', 4], ['in_doubt', 5], ['of_tomorrow', NaN]])
  expect(why('store_full')).toBe('The store has no room')
  expect(why('of_tomorrow')).toBe('of_tomorrow')
})
