import { expect, it, vi } from 'vitest'

vi.mock('./server.svelte', () => ({ server: { token: '', found: () => undefined, lost: () => undefined } }))

const { cliOf, headerValue, isJson, mistakes, newId, prepared, urlOf } = await import('./publish')

const DRAFT = {
  isEvent: true,
  type: 'orders.order-placed',
  source: '/shop',
  id: '1',
  subject: '',
  correlation: '',
  key: 'ORD-7',
  contentType: 'application/json',
  payload: '{"id":9007199254740993}',
  isTombstone: false,
}

it('sends a payload as it was typed, digit by digit', () => {
  const made = prepared('orders', DRAFT)
  expect(made.body).toBe('{"id":9007199254740993}')
  expect(urlOf(made)).toBe('/api/v1/topics/orders/events')
  expect(Object.fromEntries(made.headers)).toEqual({
    'ce-specversion': '1.0',
    'ce-id': '1',
    'ce-source': '/shop',
    'ce-type': 'orders.order-placed',
    'ce-partitionkey': 'ORD-7',
    'content-type': 'application/json',
  })
})

it('sends a plain record without attributes, with its key in the query', () => {
  const made = prepared('a/b', { ...DRAFT, isEvent: false })
  expect(urlOf(made)).toBe('/api/v1/topics/a%2Fb/events?key=ORD-7')
  expect(made.headers).toEqual([['content-type', 'application/json']])
})

it('encodes what no header can carry', () => {
  expect(headerValue('plain/text?a=b&c')).toBe('plain/text?a=b&c')
  expect(headerValue('Ä "50%"\n')).toBe('%C3%84%20%2250%25%22%0A')
})

it('says what is missing', () => {
  expect(mistakes(DRAFT)).toEqual({})
  expect(Object.keys(mistakes({ ...DRAFT, type: ' ', payload: '{' }))).toEqual(['type', 'payload'])
  expect(mistakes({ ...DRAFT, contentType: 'text/plain', payload: '{' })).toEqual({})
  expect(mistakes({ ...DRAFT, isTombstone: true, payload: '', key: '' })).toHaveProperty('key')
  // What has no attributes is JSON, or the server does not take it.
  expect(mistakes({ ...DRAFT, isEvent: false })).toEqual({})
  expect(mistakes({ ...DRAFT, isEvent: false, contentType: 'text/plain' })).toHaveProperty('contentType')
  expect(mistakes({ ...DRAFT, isEvent: false, isTombstone: true, payload: '' })).toHaveProperty('payload')
  expect(['application/json', 'application/x+json; charset=utf-8', 'text/plain'].map(isJson)).toEqual([true, true, false])
})

it('is a command too', () => {
  expect(cliOf('orders', { ...DRAFT, isEvent: false })).toBe(
    `courant pub orders --key=ORD-7 -H content-type=application/json -- '{"id":9007199254740993}'`,
  )
  expect(cliOf('orders', { ...DRAFT, isEvent: false, isTombstone: true })).toBe('courant pub orders --key=ORD-7 --null-value')
})

it('makes ids that say when', () => {
  // The example of RFC 9562, A.6.
  const random = Uint8Array.from([0xcc, 0xc3, 0x18, 0xc4, 0xdc, 0x0c, 0x0c, 0x07, 0x39, 0x8f])
  expect(newId(0x017f22e279b0, random)).toBe('017f22e2-79b0-7cc3-98c4-dc0c0c07398f')
})
