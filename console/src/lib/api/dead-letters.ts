// What the API says of services and their dead letters. What is null is unknown, and never 0.

import type { Int } from '../json'
import type { EventRecord } from './types'

export type NotOperable = 'no_key' | 'takes_no_requests' | 'silent'

export interface Parked {
  keys: Int
  events: Int
  held: Int
  next_due_ms: Int | null
}

/** A service, and what its instances say together. */
export interface Service {
  service: string
  state: 'running' | 'silent'
  operable: boolean
  not_operable: NotOperable | null
  lag_events: Int | null
  lag_seconds: Int | null
  parked_keys: Int | null
  parked_events: Int | null
  dead_letters: Int | null
  outbox: Int | null
  seen_ms: number
  instances_running: number
  instances_total: number
  instances: ServiceInstance[]
}

export interface ServicePage {
  services: Service[]
  next: string | null
  total: number
  /** Instances that say what this server does not understand. */
  unreadable: number
}

export interface ServiceInstance {
  instance: string
  state: 'running' | 'silent'
  code_version: string
  courant_version: string
  engine: string
  store: string | null
  operations: boolean
  started_ms: number
  seen_ms: number
  heartbeat_ms: number
  outbox: Int | null
  requests: { applied: Int; refused: Int }
  subscriptions: ServiceSubscription[]
  stalls: Stall[]
}

/** Something that does not go on in an instance, and is tried again. */
export interface Stall {
  /** null: the outbox waits, or what is scheduled. */
  consumer: string | null
  /** A word that stays, or one of a later version. */
  reason: string
  topic: string | null
  partition: number | null
  since_ms: Int
  times: Int
}

/** What an instance says of a consumer. What is parked and dead is that of all instances. */
export interface ServiceSubscription {
  consumer: string
  generation: number
  topics: string[]
  event_types: string[]
  policy: ServicePolicy
  passed: Int
  parked: Parked | null
  /** As much is parked as may be, so the instance reads nothing more. */
  full: boolean
  dead: { letters: Int; failures: { group: string; error: string; place: string; letters: Int; oldest_ms: number; newest_ms: number }[] } | null
  partitions: { topic: string; partition: number; next: Int; missed: Int; end: Int | null; lag_events: Int | null; lag_seconds: Int | null }[]
}

export interface ServicePolicy {
  effects: string
  concurrency: number
  attempts: number
  exhausted: string
  timeout_ms: Int
  /** Events that may be parked; 0: unknown, or no store. */
  parked_max: Int
}

/** Letters with one error from one place. */
export interface Failure {
  service: string
  group: string
  consumer: string
  error: string
  place: string
  letters: Int
  oldest_ms: number | null
  newest_ms: number | null
  topics: string[]
  /** Of the whole consumer. */
  parked: Parked | null
  seen_ms: number
  service_state: 'running' | 'silent'
  operable: boolean
  not_operable: NotOperable | null
}

export interface FailurePage {
  groups: Failure[]
  letters: Int
  /** Services of which nobody knows what is dead. */
  unknown: string[]
  next: string | null
  total: number
}

export const LETTER_STATES = ['dead', 'redriving', 'redriven', 'discarded', 'archived'] as const
export type LetterState = (typeof LETTER_STATES)[number]

export interface Letter {
  letter: Int
  consumer: string
  generation: number
  topic: string
  partition: number
  offset: Int
  event_id: string
  state: LetterState
  reason: 'exhausted' | 'undecodable' | 'refused'
  blocks_key: boolean
  /** null: not looked at, as in lists. */
  edited: boolean | null
  attempts: number
  first_failed_ms: number | null
  last_failed_ms: number | null
  group: string
  error: string
  place: string
  code_version: string
}

export interface LetterPage {
  service: string
  letters: Letter[]
  next: string | null
}

export interface WholeLetter {
  service: string
  letter: Letter
  notes: { action: string; by: string; reason: string; at_ms: number | null }[]
  record: EventRecord | null
  record_missing: string | null
  message: string | null
  copy: { topic: string; partition: number; offset: Int } | null
}

/** Which letters are meant. */
export interface Which {
  all?: true
  letters?: Int[]
  consumer?: string
  group?: string
}

export interface RedrivePlan {
  service: string
  dry_run: boolean
  letters: Int
  planned: PlannedRedrive[]
  redrive: Redrive | null
  was_known: boolean
}

export interface PlannedRedrive {
  consumer: string
  topic: string
  error: string
  place: string
  letters: Int
  attempts: Int
  repeats: string
}

export interface Redrive {
  id: string
  state: 'running' | 'done' | 'cancelled' | 'unknown'
  requested_by: string
  requested_ms: number | null
  finished_ms: number | null
  filter: string
  letters: Int
  pending: Int
  delivering: Int
  handled: Int
  failed: Int
  cancelled: Int
}

export interface RedriveResult {
  letter: Int
  result: 'pending' | 'delivering' | 'handled' | 'failed' | 'cancelled'
  since_ms: number | null
  state: LetterState
}

export interface RedriveResults {
  redrive: string
  results: RedriveResult[]
  next: string | null
  total: number
}

export interface Exported {
  service: string
  letters: WholeLetter[]
  next: string | null
}

export type CloseAction = 'discard' | 'archive' | 'restore'

export interface Decided {
  service: string
  dry_run: boolean
  action: CloseAction
  count: Int
  letters: { letter: Int; position: string }[]
  others: string[]
}

/** Which parked events are meant: those of a key in a partition. */
export interface WhichParked {
  consumer: string
  generation: number
  topic: string
  partition: number
  key: string
}

/** How many parked events were given up, or would be. */
export interface ParkedDiscarded {
  service: string
  dry_run: boolean
  count: Int
  /** Dead letters that keep the key parked. They stay. */
  letters: Int
  /** There may be more: ask again for the rest. */
  has_more: boolean
}

export interface Edited {
  service: string
  dry_run: boolean
  letter: Int
  event_id: string | null
  original_event_id: string | null
}

export interface ForeignTopics {
  topics: { topic: string; records: Int }[]
}

export interface ForeignFailures {
  topic: string
  groups: ForeignFailure[]
  records: Int
  scanned: Int
  is_complete: boolean
}

export interface ForeignFailure {
  group: string
  framework: string
  original: string | null
  consumer: string | null
  error: string | null
  letters: Int
  oldest_ms: number | null
  newest_ms: number | null
  newest: { partition: number; offset: Int }
}

export interface ForeignLetterPage {
  topic: string
  letters: ForeignLetter[]
  next: string | null
}

export interface ForeignLetter {
  letter: string
  partition: number
  offset: Int
  framework: string
  original: string | null
  original_partition: number | null
  original_offset: Int | null
  consumer: string | null
  timestamp_ms: number | null
  group: string
  error: string | null
  wrapped_in: string | null
  message: string | null
  state: string
}
