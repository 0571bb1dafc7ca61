import { expect, it, vi } from 'vitest'
import type { EventRecord, Header } from './api/types'

vi.mock('./server.svelte', () => ({ server: { token: '' } }))

const { traceIdOf } = await import('./record')

const record = (headers: Header[], cloudevent: Record<string, string> | null = null, topic = 'orders'): EventRecord => ({
  topic, partition: 0, offset: 1, timestamp: null, key: null, value: null, headers, size: 1, cloudevent,
})
const parent = { key: 'traceparent', value: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01' }

it('knows a trace by what the index of the server knows it by, the first of these', () => {
  const event = { id: 'e1', correlationid: 'c1' }
  expect(traceIdOf(record([parent], event))).toBe('c1')
  expect(traceIdOf(record([parent], { id: 'e1' }))).toBe('4bf92f3577b34da6a3ce929d0e0e4736')
  expect(traceIdOf(record([], { id: 'e1' }))).toBe('e1')
  expect(traceIdOf(record([{ key: 'ce_correlationid', value: 'c2' }]))).toBe('c2')
})

it('knows of none where nothing joins the event to others, or where no index looks', () => {
  expect(traceIdOf(record([{ key: 'traceparent', value: 'nonsense' }]))).toBeNull()
  expect(traceIdOf(record([{ key: 'ce_correlationid', value: '/w==', value_encoding: 'base64' }]))).toBeNull()
  expect(traceIdOf(record([parent], { id: 'e1' }, '_courant.audit'))).toBeNull()
})
