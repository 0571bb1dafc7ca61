// What a record must be to be found: as it is typed, and as the API wants it.

import type { Condition } from './api/types'
import { JsonNumber, parse, type Json } from './json'

/** As it is typed, and as it stands in the address. */
export interface Asked {
  contains: string
  key: string
  type: string
  /** `name=value`. */
  header: string
  /** `/pointer=value`. */
  json: string
}

export type Understood = Condition | { mistake: string }

/** null: nothing is looked for. */
export function conditionOf(asked: Asked): Understood | null {
  const condition: Condition = {}
  if (asked.contains !== '') condition.contains = asked.contains
  if (asked.key !== '') condition.key = asked.key
  if (asked.type !== '') condition.type = asked.type
  if (asked.header !== '') {
    const at = asked.header.indexOf('=')
    if (at < 1) return { mistake: 'A header is written as name=value, for example ce_source=/shop.' }
    condition.header = { name: asked.header.slice(0, at), value: asked.header.slice(at + 1) }
  }
  if (asked.json !== '') {
    const at = asked.json.lastIndexOf('=')
    const pointer = asked.json.slice(0, at)
    if (at < 1 || !pointer.startsWith('/')) {
      return { mistake: 'A place in a value is written as a pointer and what stands there, for example /order/id=7 or /state="new".' }
    }
    condition.json = { pointer, equals: scalar(asked.json.slice(at + 1)) }
  }
  return Object.keys(condition).length > 0 ? condition : null
}

/** A number, true, false, null or a text in quotes; anything else is a text as it stands. */
function scalar(text: string): unknown {
  let json: Json
  try {
    json = parse(text)
  } catch {
    return text
  }
  // A number keeps its source text, which a double would not.
  if (json instanceof JsonNumber) return json
  return json === null || typeof json === 'boolean' || typeof json === 'string' ? json : text
}
