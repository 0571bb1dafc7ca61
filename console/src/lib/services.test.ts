import { expect, it } from 'vitest'
import type { Service, ServiceInstance } from './api/dead-letters'
import { consumersOf, crowded, parkedOf, reading } from './services'

function instance(name: string, seen_ms: number, consumer: string, events: number | null, more: { full?: boolean; most?: number; state?: 'running' | 'silent' } = {}): ServiceInstance {
  const parked = events === null ? null : { keys: 1, events, held: 1, next_due_ms: null }
  const policy = { effects: 'once', concurrency: 8, attempts: 5, exhausted: 'park_key', timeout_ms: 30_000, parked_max: more.most ?? 100 }
  const said = { consumer, generation: 1, topics: ['orders'], event_types: [], policy, passed: 0, parked, full: more.full ?? false, dead: null, partitions: [] }
  return {
    instance: name, state: more.state ?? 'running', code_version: '1', courant_version: '1', engine: 'courant', store: 'SQLite', operations: false, started_ms: 1,
    seen_ms, heartbeat_ms: 10_000, outbox: 0, requests: { applied: 0, refused: 0 }, subscriptions: [said],
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
