import { expect, it } from 'vitest'
import { asked, mistakes, words, type EditDraft } from './edit'

const draft: EditDraft = { hasValue: true, value: '{"id":9007199254740993}', headers: '', deleted: '', reason: 'a typo', by: '', isForced: false }

it('sends a value as it was typed, and only what changes', () => {
  expect(asked(draft)).toEqual({ value: '{"id":9007199254740993}', force: false, reason: 'a typo' })
  const headers = { ...draft, hasValue: false, headers: 'a=b=c\n\n x = y ', deleted: 'old\n', by: ' grace ' }
  expect(asked(headers)).toEqual({
    headers: [{ key: 'a', value: 'b=c' }, { key: 'x', value: ' y' }], deleted_headers: ['old'], force: false, reason: 'a typo', by: 'grace',
  })
})

it('says what is wrong before anything is sent', () => {
  expect(mistakes(draft, true)).toEqual({})
  expect(mistakes({ ...draft, value: '{' }, true)).toHaveProperty('value')
  expect(mistakes({ ...draft, value: '{', isForced: true }, true)).toEqual({})
  expect(mistakes({ ...draft, value: '{' }, false)).toEqual({})
  expect(mistakes({ ...draft, headers: '=x' }, true)).toHaveProperty('headers')
  expect(mistakes({ ...draft, hasValue: false, reason: ' ' }, true)).toEqual({
    nothing: 'Nothing changes yet.', reason: 'Say why: it is kept with the letter.',
  })
})

it('writes the same for a shell', () => {
  expect(words(draft)).toEqual(['--reason', 'a typo', '--', '{"id":9007199254740993}'])
  expect(words({ ...draft, hasValue: false, headers: 'a=b', deleted: 'c', isForced: true })).toEqual([
    '--reason', 'a typo', '-H', 'a=b', '--delete-header', 'c', '--force', '--keep-value',
  ])
})
