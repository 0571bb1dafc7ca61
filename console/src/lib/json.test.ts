import { describe, expect, it } from 'vitest'
import { DEPTH_MAX, encode, JsonNumber, JsonObject, parse, plain, stringify, toNumber, tryParse } from './json'

describe('numbers', () => {
  it('keep every digit that was written', () => {
    const text = '{"id":9007199254740993,"max":18446744073709551615,"min":-9223372036854775808,"pi":3.14000,"big":1e400}'
    expect(stringify(parse(text))).toBe(text)
  })

  it('are exact in arithmetic: a bigint where a double would round', () => {
    expect(toNumber(new JsonNumber('9007199254740993'))).toBe(9007199254740993n)
    expect(toNumber(new JsonNumber('-9007199254740993'))).toBe(-9007199254740993n)
    expect(toNumber(new JsonNumber('9007199254740991'))).toBe(9007199254740991)
    expect(toNumber(new JsonNumber('0.5'))).toBe(0.5)
    expect(plain(parse('{"offset":18446744073709551615}'))).toEqual({ offset: 18446744073709551615n })
  })

  it('are only what JSON has', () => {
    for (const bad of ['01', '+1', '.5', '1.', '0x10', 'NaN', '1e', '--1', '1 2']) {
      expect(tryParse(bad), bad).toBeUndefined()
    }
  })

  it('go out as they came in', () => {
    expect(encode({ offset: 9007199254740993n, list: [1, 'a"b', null], nothing: undefined })).toBe(
      '{"offset":9007199254740993,"list":[1,"a\\"b",null]}',
    )
  })
})

describe('texts', () => {
  it('are what the browser makes of them', () => {
    for (const text of ['""', '"plain"', '"\\u00e4\\n\\"\\\\\\/"', '"\\ud83d\\ude00"', '"<script>alert(1)</script>"']) {
      expect(parse(text), text).toBe(JSON.parse(text))
    }
  })

  it('end where they should', () => {
    for (const bad of ['"', '"a', '"a\n"', '"\\x"', '"\\u12"', '"\\', "'a'"]) {
      expect(tryParse(bad), bad).toBeUndefined()
    }
  })
})

describe('objects', () => {
  it('keep the order of their names, and names that repeat', () => {
    const object = parse('{"b":1,"a":2,"b":3,"__proto__":4}')
    expect(object).toBeInstanceOf(JsonObject)
    expect((object as JsonObject).members.map(([name]) => name)).toEqual(['b', 'a', 'b', '__proto__'])
  })

  it('are nothing but themselves: a name cannot reach the prototype', () => {
    const made = plain(parse('{"__proto__":{"polluted":true}}')) as Record<string, unknown>
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined()
    expect(Object.getPrototypeOf(made)).toBe(Object.prototype)
  })

  it('are well formed or none', () => {
    for (const bad of ['', '{', '{"a"}', '{"a":}', '{"a":1,}', '{a:1}', '[1,]', '[,1]', '[1', '{}x', 'tru', 'nul']) {
      expect(tryParse(bad), bad).toBeUndefined()
    }
  })

  it('are written with and without indentation', () => {
    const json = parse(' { "a" : [ 1 , {} , [] ] , "b" : null } ')
    expect(stringify(json)).toBe('{"a":[1,{},[]],"b":null}')
    expect(stringify(json, 2)).toBe('{\n  "a": [\n    1,\n    {},\n    []\n  ],\n  "b": null\n}')
  })
})

it('agrees with the browser on what is no matter of size', () => {
  const values = [null, true, [], {}, [[[]]], { a: { b: [1, 2.5, -3e-7, 'x', false] } }, 'ä\u2028', 0, -0.1]
  for (const value of values) expect(plain(parse(JSON.stringify(value)))).toEqual(value)
})

it('refuses what would exhaust the stack', () => {
  const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth)
  expect(tryParse(nested(DEPTH_MAX))).toBeDefined()
  expect(tryParse(nested(DEPTH_MAX + 2))).toBeUndefined()
  expect(tryParse('['.repeat(1_000_000))).toBeUndefined()
})
