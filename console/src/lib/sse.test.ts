import { expect, it } from 'vitest'
import { EventParser } from './sse'

const STREAM = ': hello\nevent: record\nid: 7\ndata: {"a":1}\n\ndata: one\ndata: two\n\n: \n\nevent: end\ndata\n\n'
const EVENTS = [
  { event: 'record', data: '{"a":1}', id: '7' },
  { event: 'message', data: 'one\ntwo', id: '7' },
  { event: 'end', data: '', id: '7' },
]

it('reads a stream whole', () => {
  expect(new EventParser().push(STREAM)).toEqual(EVENTS)
})

it('does not care where a stream is cut', () => {
  for (const text of [STREAM, STREAM.replaceAll('\n', '\r\n')]) {
    for (let cut = 1; cut < text.length; cut += 1) {
      const parser = new EventParser()
      expect([...parser.push(text.slice(0, cut)), ...parser.push(text.slice(cut))], `cut at ${cut}`).toEqual(EVENTS)
    }
    const parser = new EventParser()
    expect([...text].flatMap((letter) => parser.push(letter))).toEqual(EVENTS)
  }
})

it('keeps an event back until it is whole', () => {
  const parser = new EventParser()
  expect(parser.push('data: a\n')).toEqual([])
  expect(parser.push('\n')).toHaveLength(1)
})

it('learns from a sign of life where to go on', () => {
  const parser = new EventParser()
  expect(parser.push(': heartbeat\nid: stream,0.0.0.19\n\n')).toEqual([])
  expect(parser.lastId).toBe('stream,0.0.0.19')
})
