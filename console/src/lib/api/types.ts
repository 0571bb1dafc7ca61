// The answers of the HTTP API, as its OpenAPI document has them. `Int` is exact in 64 bits; what is null is
// unknown, or not there, and never 0.

import type { Int } from '../json'

export interface Health {
  status: 'ready' | 'not_ready'
  version: string
  log_id: string | null
  uptime_seconds: Int
  now_ms: number
  read_only: boolean
  demo: boolean
  checks: Check[]
  limits: Record<string, Int>
}

export interface Check {
  name: string
  status: 'ok' | 'warn' | 'fail'
  detail: string | null
}

export interface TopicPage {
  topics: ListedTopic[]
  next: string | null
  total: number
}

export interface ListedTopic {
  name: string
  id: string
  partitions: number
  events: Int
  bytes: Int
  groups: number
  internal: boolean
}

export interface Topic extends ListedTopic {
  group_names: string[]
  configs: Config[]
}

export interface Config {
  name: string
  value: string
  source: 'topic' | 'default'
  doc: string
}

export interface PartitionPage {
  partitions: Partition[]
  next: number | null
  total: number
}

export interface Partition {
  topic: string
  partition: number
  leader: number
  start: Int
  end: Int
  events: Int
  bytes: Int
}

export interface GroupPage {
  groups: ListedGroup[]
  next: string | null
  total: number
}

export interface ListedGroup {
  name: string
  state: string
  protocol_type: string
  members: number
  topics: number
  lag: Int | null
  lag_seconds: number | null
  sampled_ms: number | null
}

export interface Group {
  name: string
  state: string
  protocol_type: string
  protocol: string
  members: Member[]
  members_total: number
  /** At most 1000, those furthest behind. */
  topics: Record<string, TopicLag>
  topics_total: number
  total: Lag
  partitions: GroupPartition[]
  next: string | null
  partitions_total: number
}

export interface Member {
  id: string
  instance_id: string | null
  client_id: string
  host: string
  assigned: Record<string, number[]>
}

export interface Lag {
  events: Int | null
  seconds: number | null
}

export interface TopicLag extends Lag {
  events_per_minute: number | null
}

export interface GroupPartition {
  topic: string
  partition: number
  committed: Int | null
  end: Int
  lag: Int | null
  lag_seconds: number | null
  client_id: string | null
  host: string | null
}

export interface GroupHistory {
  group: string
  topic: string
  interval_seconds: number
  points: LagPoint[]
}

export interface LagPoint extends Lag {
  at_ms: number
}

export interface RecordPage {
  topic: string
  records: EventRecord[]
  gaps: Gap[]
  partitions: RecordPagePartition[]
  next: string | null
}

export interface RecordPagePartition {
  partition: number
  start: Int
  end: Int
  next: Int
}

/** One record. Its texts are the source texts of what was published. */
export interface EventRecord {
  topic: string
  partition: number
  offset: Int
  timestamp: string | null
  key: string | null
  key_encoding?: 'base64'
  key_truncated?: boolean
  value: string | null
  value_encoding?: 'base64'
  value_format?: 'json'
  value_truncated?: boolean
  headers: Header[]
  headers_left_out?: number
  size: number
  cloudevent: Record<string, string> | null
}

export interface Header {
  key: string
  value: string | null
  value_encoding?: 'base64'
  value_truncated?: boolean
}

export interface Gap {
  topic: string
  partition: number
  first_offset: Int
  last_offset: Int | null
  code: 'damaged' | 'undecodable' | 'deleted'
  reason: string
}

export type SearchStatus = 'queued' | 'running' | 'done' | 'cancelled' | 'failed'

export interface Search {
  id: string
  status: SearchStatus
  reason: string | null
  topics: string[]
  scanned: Int
  of: Int | null
  bytes: Int
  found: Int
  kept: number
  rate: Int | null
  elapsed_ms: number
  gaps: Gap[]
  gaps_left_out: number
  expires_in_ms: number | null
}

export interface SearchRequest {
  topics: string[]
  partitions?: number[]
  range?: { from?: string; to?: string }
  where: Condition
  limit?: number
}

export interface Condition {
  contains?: string
  key?: string
  header?: { name: string; value: string }
  json?: { pointer: string; equals: unknown }
  type?: string
}
