// What instances of services say of their consumers, put together.

import type { Parked, Service, ServiceInstance, ServiceSubscription } from './api/dead-letters'
import type { Int } from './json'
import type { StatusKind } from '../ui/Status.svelte'

/** A consumer of a service, of what its instances say. */
export interface Consumer {
  service: string
  name: string
  /** Of all instances together; null: unknown, or there is no store. */
  parked: Parked | null
  /** Events that may be parked; null: unknown, or there is no store. */
  parkedMax: Int | null
  /** Instances that run. */
  running: number
  /** Those of them that read nothing more. */
  full: number
}

/** Above this share of what may be parked somebody should look, before the consumer reads no more. */
const NEARLY = 0.9

/** Every consumer of a service, by name. What is the same for all instances is the newest word of one. */
export function consumersOf(service: Service): Consumer[] {
  const found = new Map<string, [ServiceInstance, ServiceSubscription][]>()
  for (const instance of service.instances) {
    for (const said of instance.subscriptions) {
      found.set(said.consumer, [...(found.get(said.consumer) ?? []), [instance, said]])
    }
  }
  const consumers = [...found].map(([name, words]): Consumer => {
    const [, newest] = words.reduce((best, one) => (one[0].seen_ms > best[0].seen_ms ? one : best))
    const running = words.filter(([instance]) => instance.state === 'running')
    const most = newest.policy.parked_max
    return {
      service: service.service,
      name,
      parked: newest.parked,
      parkedMax: Number(most) === 0 ? null : most,
      running: running.length,
      full: running.filter(([, said]) => said.full).length,
    }
  })
  return consumers.toSorted((a, b) => (a.name < b.name ? -1 : 1))
}

/** What counts towards what may be parked: events that wait, and dead letters that keep their key parked. */
export function parkedOf(consumer: Consumer): Int | null {
  return consumer.parked === null ? null : BigInt(consumer.parked.events) + BigInt(consumer.parked.held)
}

function share(consumer: Consumer): number {
  const parked = parkedOf(consumer)
  return parked === null || consumer.parkedMax === null ? 0 : Number(parked) / Number(consumer.parkedMax)
}

/** Those that read nothing more, and those that nearly do; the worst first. */
export function crowded(consumers: readonly Consumer[]): Consumer[] {
  const isFull = (one: Consumer): number => (one.full > 0 ? 1 : 0)
  return consumers
    .filter((one) => one.full > 0 || share(one) > NEARLY)
    .toSorted((a, b) => isFull(b) - isFull(a) || share(b) - share(a))
}

/** Whether it reads. */
export function reading(consumer: Consumer): readonly [StatusKind, string] {
  const { running, full } = consumer
  if (running === 0) return ['unknown', 'Silent']
  if (full > 0) return ['fail', full < running ? `Full, ${full} of ${running}` : 'Full']
  return share(consumer) > NEARLY ? ['warn', 'Nearly full'] : ['ok', 'Reads']
}
