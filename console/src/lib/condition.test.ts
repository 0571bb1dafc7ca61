import { expect, it } from 'vitest'
import { conditionOf } from './condition'
import { encode } from './json'

const NOTHING = { contains: '', key: '', type: '', header: '', json: '' }

it('is nothing when nothing is looked for', () => {
  expect(conditionOf(NOTHING)).toBeNull()
})

it('is what the API wants', () => {
  const asked = { contains: 'a b', key: 'ORD-7', type: 'order.placed', header: 'h=x=y', json: '/a=b/id=9007199254740993' }
  expect(encode(conditionOf(asked))).toBe(
    '{"contains":"a b","key":"ORD-7","type":"order.placed","header":{"name":"h","value":"x=y"},' +
      '"json":{"pointer":"/a=b/id","equals":9007199254740993}}',
  )
})

it('takes a text for a text', () => {
  const equals = (json: string): string => encode(conditionOf({ ...NOTHING, json }))
  expect(equals('/state=new')).toContain('"equals":"new"')
  expect(equals('/state="7"')).toContain('"equals":"7"')
  expect(equals('/state=7.10')).toContain('"equals":7.10')
  expect(equals('/state=null')).toContain('"equals":null')
  expect(equals('/state={}')).toContain('"equals":"{}"')
})

it('says how it is written', () => {
  expect(conditionOf({ ...NOTHING, header: 'x' })).toHaveProperty('mistake')
  expect(conditionOf({ ...NOTHING, json: 'id=7' })).toHaveProperty('mistake')
  expect(conditionOf({ ...NOTHING, json: '/id' })).toHaveProperty('mistake')
})
