// The answers below `/demo`, as the OpenAPI document of a running demo has them.

import type { Int } from '../../lib/json'

export interface DemoState {
  seed: Int
  speed: number
  script: boolean
  switches: DemoSwitch[]
  ticks: DemoTick[]
  figures: DemoFigures
}

export interface DemoSwitch {
  id: string
  title: string
  on: boolean
}

export interface DemoTick {
  id: string
  title: string
  to_do: string
  done: boolean
  seen: string | null
}

export interface DemoFigures {
  placed: Int
  declined: Int
  shipped: Int
  outbox: Int
  dead_letters: Int
  parked: Int
  lag: Int
}

/** What a switch does, before it is done. A switch that nobody here knows has no words. */
export const WORDS: Record<string, { breaks: string; repairs: string }> = {
  carrier: {
    breaks: 'It forgets Iceland, so shipping fails for it. A customer there orders three times at once, and is parked.',
    repairs: 'It knows Iceland again. What is parked stays so until it is sent back.',
  },
  analytics: {
    breaks: 'Each event takes a quarter of a second, so more come than are counted.',
    repairs: 'Events are counted as fast as they can be.',
  },
  gateway: {
    breaks: 'It stutters: one order comes at once, and then every fourth, each three times under one id.',
    repairs: 'Orders come once.',
  },
  broker: {
    breaks: 'It is cut: the five services reach the broker no more, while you and other clients do. Orders are still taken.',
    repairs: 'What waits in the outboxes leaves.',
  },
}

/** Where to look at a tick. */
export const PLACES: Record<string, { to: string; name: string }> = {
  flowing: { to: '/topics/shop.orders/live', name: 'Live orders' },
  parked: { to: '/dlq/shipping', name: 'Dead letters' },
  others: { to: '/topics/shop.shipments/live', name: 'Live parcels' },
  redriven: { to: '/topics/shop.shipments', name: 'Parcels' },
  behind: { to: '/groups/analytics', name: 'Its lag' },
  caught_up: { to: '/groups/analytics', name: 'Its lag' },
  repeated: { to: '/topics/shop.orders?key=partner', name: 'The orders' },
  away: { to: '/topics/shop.orders/live', name: 'Live orders' },
}
