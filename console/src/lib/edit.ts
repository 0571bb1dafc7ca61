// Other bytes for a dead letter: what was typed, as the request that the API wants.

import { tryParse } from './json'

export interface EditDraft {
  /** Whether the value changes; else only headers do. */
  hasValue: boolean
  value: string
  /** `name=value`, one on a line. */
  headers: string
  /** Names, one on a line. */
  deleted: string
  reason: string
  by: string
  /** Take a value that is not what its content type says. */
  isForced: boolean
}

export interface EditAsked {
  value?: string
  headers?: { key: string; value: string }[]
  deleted_headers?: string[]
  force: boolean
  reason: string
  by?: string
}

/** What is wrong with it, field by field. */
export function mistakes(draft: EditDraft, isJson: boolean): Partial<Record<'value' | 'headers' | 'reason' | 'nothing', string>> {
  const found: ReturnType<typeof mistakes> = {}
  if (draft.hasValue && isJson && !draft.isForced && tryParse(draft.value) === undefined) found.value = 'This is not JSON.'
  const wrong = lines(draft.headers).find((line) => line.indexOf('=') < 1)
  if (wrong !== undefined) found.headers = `“${wrong}” is no header; write name=value.`
  if (draft.reason.trim() === '') found.reason = 'Say why: it is kept with the letter.'
  if (!draft.hasValue && lines(draft.headers).length === 0 && lines(draft.deleted).length === 0) found.nothing = 'Nothing changes yet.'
  return found
}

/** The value is sent as it was typed: every digit of it. */
export function asked(draft: EditDraft): EditAsked {
  const headers = lines(draft.headers).map((line) => {
    const at = line.indexOf('=')
    return { key: line.slice(0, at).trim(), value: line.slice(at + 1) }
  })
  const deleted = lines(draft.deleted)
  return {
    ...(draft.hasValue ? { value: draft.value } : {}),
    ...(headers.length > 0 ? { headers } : {}),
    ...(deleted.length > 0 ? { deleted_headers: deleted } : {}),
    force: draft.isForced,
    reason: draft.reason.trim(),
    ...(draft.by.trim() === '' ? {} : { by: draft.by.trim() }),
  }
}

/** The same as words of the command line, without where the letter is. */
export function words(draft: EditDraft): string[] {
  const { value, headers = [], deleted_headers: deleted = [], force, reason } = asked(draft)
  return [
    '--reason',
    reason || 'why',
    ...headers.flatMap(({ key, value }) => ['-H', `${key}=${value}`]),
    ...deleted.flatMap((name) => ['--delete-header', name]),
    ...(force ? ['--force'] : []),
    ...(value === undefined ? ['--keep-value'] : ['--', value]),
  ]
}

function lines(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
}
