// An event on its way: what was typed, as the request that the API wants (CloudEvents' HTTP binding, binary).

import { address, part } from './api/client'
import { tryParse } from './json'
import { command } from './shell'

export interface Draft {
  /** An event has attributes; a plain record is only a key and a value. */
  isEvent: boolean
  type: string
  source: string
  id: string
  subject: string
  correlation: string
  key: string
  contentType: string
  payload: string
  /** No value at all: a tombstone. */
  isTombstone: boolean
}

export interface Prepared {
  path: string
  query: { key?: string }
  headers: [string, string][]
  body: string
}

/** Why it cannot be published as it stands, field by field. */
export function mistakes(draft: Draft): Partial<Record<keyof Draft, string>> {
  const found: Partial<Record<keyof Draft, string>> = {}
  if (draft.isEvent) {
    if (draft.type.trim() === '') found.type = 'An event has a type, such as orders.order-placed.'
    if (draft.source.trim() === '') found.source = 'An event says where it comes from, such as /shop.'
    if (draft.id.trim() === '') found.id = 'An event has an id that no other one of its source has.'
  }
  if (!draft.isTombstone && isJson(draft.contentType) && tryParse(draft.payload) === undefined) {
    found.payload = draft.payload.trim() === '' ? 'The payload is empty.' : 'This is not JSON.'
  }
  if (draft.isTombstone && draft.key === '') found.key = 'What has no value deletes a key, so it needs one.'
  if (draft.contentType.trim() === '') found.contentType = 'Say what the payload is, such as text/plain.'
  else if (!draft.isEvent && !/^application\/json\s*(;|$)/i.test(draft.contentType.trim())) {
    found.contentType = 'A plain record is application/json; what is something else is published as an event.'
  }
  if (!draft.isEvent && draft.isTombstone) found.payload = 'Only an event can be without a value; choose “A CloudEvent”.'
  return found
}

export function isJson(contentType: string): boolean {
  return /^[\w.+-]+\/([\w.-]+\+)?json\s*(;|$)/i.test(contentType.trim())
}

/** A header's value by the HTTP binding: what is not printable ASCII is percent-encoded. */
export function headerValue(text: string): string {
  return [...text]
    .map((letter) => (/[!#$&-~]/.test(letter) ? letter : percent(letter)))
    .join('')
}

function percent(letter: string): string {
  const bytes = new TextEncoder().encode(letter)
  return [...bytes].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`).join('')
}

export function prepared(topic: string, draft: Draft): Prepared {
  const headers: [string, string][] = []
  if (draft.isEvent) {
    headers.push(['ce-specversion', '1.0'], ['ce-id', headerValue(draft.id.trim())])
    headers.push(['ce-source', headerValue(draft.source.trim())], ['ce-type', headerValue(draft.type.trim())])
    if (draft.subject !== '') headers.push(['ce-subject', headerValue(draft.subject)])
    if (draft.correlation !== '') headers.push(['ce-correlationid', headerValue(draft.correlation)])
    if (draft.key !== '') headers.push(['ce-partitionkey', headerValue(draft.key)])
  }
  headers.push(['content-type', draft.contentType.trim()])
  const query = draft.isEvent || draft.key === '' ? {} : { key: draft.key }
  return { path: `/topics/${part(topic)}/events`, query, headers, body: draft.isTombstone ? '' : draft.payload }
}

/** The same with the command line. */
export function cliOf(topic: string, draft: Draft): string {
  const header = (name: string, value: string): string[] => (value === '' ? [] : ['-H', `${name}=${value}`])
  const headers = draft.isEvent
    ? [
        ...header('ce_specversion', '1.0'),
        ...header('ce_id', draft.id),
        ...header('ce_source', draft.source),
        ...header('ce_type', draft.type),
        ...header('ce_subject', draft.subject),
        ...header('ce_correlationid', draft.correlation),
      ]
    : []
  const key = draft.key === '' ? undefined : `--key=${draft.key}`
  const kind = draft.isTombstone ? [] : header('content-type', draft.contentType)
  const value = draft.isTombstone ? ['--null-value'] : ['--', draft.payload]
  return command('courant', 'pub', topic, key, ...headers, ...kind, ...value)
}

export function urlOf(made: Prepared): string {
  return address(made.path, made.query)
}

/** A UUID of version 7: it says when it was made, so that the event is found by its id (RFC 9562, 5.7). */
export function newId(now = Date.now(), random = crypto.getRandomValues(new Uint8Array(10))): string {
  const bytes = new Uint8Array(16)
  for (let at = 0; at < 6; at += 1) bytes[at] = Math.floor(now / 256 ** (5 - at)) % 256
  bytes.set(random, 6)
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x70
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('')
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}
