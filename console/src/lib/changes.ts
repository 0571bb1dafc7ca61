// What is different between two JSON texts: place by place, with the source text of each.

import { JsonNumber, JsonObject, stringify, type Json } from './json'

export interface Change {
  /** A JSON pointer; empty: all of it. */
  at: string
  /** undefined: it was not there. */
  before: string | undefined
  /** undefined: it is there no more. */
  after: string | undefined
}

/** Places that differ, the first `max` of them. */
export function changes(before: Json, after: Json, max = 100): Change[] {
  const found: Change[] = []
  compare('', before, after, found, max)
  return found
}

function compare(at: string, before: Json | undefined, after: Json | undefined, found: Change[], max: number): void {
  if (found.length >= max || same(before, after)) return
  const members = parts(before)
  const others = parts(after)
  // Of two objects or two lists it is the parts that differ.
  if (members && others && Array.isArray(before) === Array.isArray(after)) {
    for (const name of new Set([...members.keys(), ...others.keys()])) {
      compare(`${at}/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`, members.get(name), others.get(name), found, max)
    }
    return
  }
  found.push({ at, before: before === undefined ? undefined : stringify(before), after: after === undefined ? undefined : stringify(after) })
}

/** Numbers are the same when they are written the same: 1.0 is not 1 to everybody who reads it. */
function same(a: Json | undefined, b: Json | undefined): boolean {
  if (a === undefined || b === undefined) return a === b
  if (a instanceof JsonNumber && b instanceof JsonNumber) return a.text === b.text
  return a === b
}

/** null: it has none. */
function parts(json: Json | undefined): Map<string, Json> | null {
  if (json instanceof JsonObject) return new Map(json.members)
  return Array.isArray(json) ? new Map(json.map((item, index) => [String(index), item])) : null
}
