// What the API says of traces: events that belong together, and which of them caused which.

import type { Int } from '../json'

export type JoinedBy = 'correlation' | 'traceparent' | 'header' | 'event'

/** What the server has in its index, and what it has not. */
export interface TraceIndex {
  state: 'off' | 'building' | 'following' | 'failed'
  events: Int
  events_max: Int
  seen: Int
  without_correlation: Int
  behind: Int
  passed_over: Int
  complete_since: string | null
}

export interface TracePage {
  traces: ListedTrace[]
  next: string | null
  index: TraceIndex
}

export interface ListedTrace {
  id: string | null
  joined_by: JoinedBy | null
  events: Int
  dead_letters: Int
  first: string | null
  last: string | null
  begins_before: boolean
  root: TraceRoot | null
}

export interface TraceRoot {
  type: string | null
  source: string | null
  topic: string
  partition: number
  offset: Int
  key: string | null
}

export interface Trace {
  id: string
  joined_by: JoinedBy
  asked_event: number | null
  events: Int
  dead_letters: Int
  first: string | null
  last: string | null
  begins_before: boolean
  left_out: Int
  nodes: TracedEvent[]
  unknown_parents: UnknownParent[]
  next: string | null
  index: TraceIndex
}

export interface UnknownParent {
  event_id: string
  children: number[]
}

export interface TracedEvent {
  n: number
  parent: number | null
  parent_state: 'root' | 'known' | 'unknown'
  depth: number
  kind: 'event' | 'command' | 'dead_letter' | 'gone'
  event_id: string | null
  type: string | null
  source: string | null
  /** null: the topic is gone. */
  topic: string | null
  partition: number | null
  offset: Int
  time: string | null
  key: string | null
  key_encoding?: 'base64'
  correlation_id: string | null
  causation_id: string | null
  size: number | null
  duplicate: boolean
  dead_letter: TracedFailure | null
  gone: string | null
}

export interface TracedFailure {
  consumer: string | null
  attempts: number | null
  error_type: string | null
  error: string | null
  topic: string | null
  partition: number | null
  offset: Int | null
}
