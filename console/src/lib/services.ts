// What instances of services say of their consumers, put together.

import type { Parked, Service, ServiceInstance, ServiceSubscription } from './api/dead-letters'
import { dateable, MOMENT_MAX } from './format'
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
  /** Those of them that say that something of the consumer does not go on. */
  stalled: number
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
      stalled: running.filter(([instance]) => instance.stalls.some((stall) => stall.consumer === name)).length,
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
  const { running, full, stalled } = consumer
  const some = (word: string, of: number): string => (of < running ? `${word}, ${of} of ${running}` : word)
  if (running === 0) return ['unknown', 'Silent']
  if (full > 0) return ['fail', some('Full', full)]
  if (stalled > 0) return ['warn', some('Stalled', stalled)]
  return share(consumer) > NEARLY ? ['warn', 'Nearly full'] : ['ok', 'Reads']
}

/** Something of a service that does not go on, of what all its running instances say. */
export interface Stalled {
  /** Of no other. */
  id: string
  service: string
  /** null: the outbox, or what is scheduled. */
  consumer: string | null
  reason: string
  /** What it is about, such as `orders` or `orders/3`; null: no topic. */
  place: string | null
  /** Since when for the instance that has waited longest, in milliseconds since 1970; NaN: no time that a clock has. */
  since: number
  /** How often it was tried since then, by all of them. */
  times: bigint
}

/** What does not go on; the longest first. What a silent instance has said last is no news of now. */
export function stalledOf(service: Service): Stalled[] {
  const found = new Map<string, Stalled>()
  for (const stall of service.instances.filter((one) => one.state === 'running').flatMap((one) => one.stalls)) {
    const { consumer, reason, topic, partition } = stall
    const id = JSON.stringify([service.service, consumer, reason, topic, partition])
    const since = dateable(stall.since_ms) ?? NaN
    const same = found.get(id)
    found.set(id, {
      id, service: service.service, consumer, reason,
      place: topic === null || partition === null ? topic : `${topic}/${partition}`,
      since: same === undefined || since < same.since || Number.isNaN(same.since) ? since : same.since,
      times: BigInt(stall.times) + (same?.times ?? 0n),
    })
  }
  return longest([...found.values()])
}

/** The longest first; those without a time stand behind. */
export function longest(stalls: readonly Stalled[]): Stalled[] {
  const at = (one: Stalled): number => (Number.isNaN(one.since) ? MOMENT_MAX : one.since)
  return stalls.toSorted((a, b) => at(a) - at(b))
}

/** What stands in docs/formats/services.md of the words. */
const WHY = new Map([
  ['refused', 'The engine does not take an event as it is, or as its topic is'],
  ['no_topic', 'The topic or the partition is not there'],
  ['engine_away', 'The engine does not answer'],
  ['engine_full', 'The engine has no room'],
  ['engine_failed', 'The engine writes nothing more before it is opened again'],
  ['unreadable', 'The engine cannot read the partition'],
  ['not_taken_over', 'The partition cannot be taken over'],
  ['taken_elsewhere', 'Another instance has taken the partition over, and the group gives it to this one'],
  ['progress_unkept', 'The engine does not keep how far the consumer is'],
  ['event_fails', 'An event fails and is tried again where it is'],
  ['store_away', 'The store does not answer, or is held by others'],
  ['store_full', 'The store has no room'],
  ['store_files', 'The store cannot read or write its files'],
  ['store_reads_only', 'The store is a standby'],
  ['in_doubt', 'It is not known whether an event was committed'],
])

/** Why something does not go on, as a sentence; the word itself where a later version has said it. */
export function why(reason: string): string {
  return WHY.get(reason) ?? reason
}
