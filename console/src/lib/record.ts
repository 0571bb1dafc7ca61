// What a record says, for people.

import { server } from './server.svelte'
import { address, part } from './api/client'
import type { EventRecord } from './api/types'
import { bytes, line } from './format'
import { command, curl } from './shell'

/** A name that no other record has. */
export function idOf(record: EventRecord): string {
  return `${record.partition}-${record.offset}`
}

/** Milliseconds since 1970. */
export function timeOf(record: EventRecord): number | null {
  return record.timestamp === null ? null : Date.parse(record.timestamp)
}

export function keyOf(record: EventRecord): string {
  if (record.key === null) return ''
  return line(record.key) + (record.key_truncated ? '…' : '')
}

/** One line about the value. */
export function previewOf(record: EventRecord): string {
  if (record.value === null) return ''
  if (record.value_encoding) return `${bytes(rawSize(record.value))} that are no text`
  return line(record.value)
}

/** Bytes that a base64 text stands for. */
function rawSize(base64: string): number {
  const padding = base64.endsWith('==') ? 2 : base64.endsWith('=') ? 1 : 0
  return (base64.length * 3) / 4 - padding
}

/** The newest first; those of one moment by partition and offset, so that nothing ever changes places. */
export function newestFirst(a: EventRecord, b: EventRecord): number {
  const times = (timeOf(b) ?? 0) - (timeOf(a) ?? 0)
  if (times !== 0) return times
  if (a.partition !== b.partition) return a.partition - b.partition
  return Number(BigInt(b.offset) - BigInt(a.offset))
}

/** What the events of its trace have in common, as the server's index has it; null: nothing does. */
export function traceIdOf(record: EventRecord): string | null {
  if (record.topic.startsWith('_courant.') || record.topic.startsWith('__')) return null
  const header = (name: string): string | null => {
    const found = record.headers.find((one) => one.key === name)
    return found && !found.value_encoding && !found.value_truncated ? found.value : null
  }
  const attribute = (name: string): string | null => record.cloudevent?.[name] ?? header(`ce_${name}`)
  const parent = /^[\da-f]{2}-([\da-f]{32})-/.exec(header('traceparent') ?? '')?.[1]
  return attribute('correlationid') ?? parent ?? attribute('id')
}

export function cliOf(record: EventRecord): string {
  const partition = String(record.partition)
  const from = String(record.offset)
  return command('courant', 'tail', record.topic, '--partition', partition, '--from', from, '-n', '1', '-o', 'json')
}

export function pathOf(record: EventRecord): string {
  return `/topics/${part(record.topic)}/records/${record.partition}/${record.offset}`
}

export function curlOf(record: EventRecord): string {
  return curlTo(pathOf(record))
}

/** A question to this server's API as a `curl` line. */
export function curlTo(path: string, query: Parameters<typeof address>[1] = {}, asked: Parameters<typeof curl>[1] = {}): string {
  return curl(location.origin + address(path, query), asked, server.token !== '')
}

/** Bytes as people look at them: sixteen on a line. */
export function hexOf(base64: string): string {
  const raw = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))
  const lines: string[] = []
  for (let at = 0; at < raw.length; at += 16) {
    const row = [...raw.slice(at, at + 16)]
    const hex = row.map((byte) => byte.toString(16).padStart(2, '0')).join(' ')
    const text = row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '·')).join('')
    lines.push(`${at.toString(16).padStart(6, '0')}  ${hex.padEnd(47)}  ${text}`)
  }
  return lines.join('\n')
}
