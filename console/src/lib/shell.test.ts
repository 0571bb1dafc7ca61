import { expect, it } from 'vitest'
import { command, curl, quote } from './shell'

it('quotes what a shell would take apart', () => {
  expect(quote('orders')).toBe('orders')
  expect(quote('@-10m')).toBe('@-10m')
  expect(quote('')).toBe("''")
  expect(quote('a b')).toBe("'a b'")
  expect(quote("it's $HOME `x`")).toBe("'it'\\''s $HOME `x`'")
})

it('writes commands', () => {
  expect(command('courant', 'tail', 'orders', undefined, '--from', '-50')).toBe('courant tail orders --from -50')
  expect(command('courant', 'pub', 'orders', '{"a":1}')).toBe(`courant pub orders '{"a":1}'`)
})

it('writes requests, and never a credential', () => {
  expect(curl('http://h/api/v1/topics?filter=a&limit=5')).toBe("curl -s 'http://h/api/v1/topics?filter=a&limit=5'")
  const line = curl('http://h/x', { method: 'POST', headers: [['ce-id', '1']], body: '{}', streams: true }, true)
  expect(line).toBe(
    `curl -sN -X POST -H 'ce-id: 1' -H "Authorization: Bearer $COURANT_TOKEN" --data-binary '{}' http://h/x`,
  )
})
