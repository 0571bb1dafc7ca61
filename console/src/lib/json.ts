// JSON without loss: a number is its source text. `JSON.parse` makes 9007199254740992 of 9007199254740993,
// which is not what was published.

/** A number as it was written. */
export class JsonNumber {
  constructor(readonly text: string) {}
}

/** An object as it was written: names may repeat, and their order is kept. */
export class JsonObject {
  constructor(readonly members: readonly (readonly [string, Json])[]) {}
}

export type Json = null | boolean | string | JsonNumber | JsonObject | Json[]

/** A whole number of up to 64 bits: a bigint where a double would round it. */
export type Int = number | bigint

/** What is nested deeper is shown as text: the parser and the tree are recursive. */
export const DEPTH_MAX = 256

export class JsonError extends Error {
  constructor(
    message: string,
    readonly at: number,
  ) {
    super(`${message} at character ${at}`)
  }
}

/** Parses a text by RFC 8259. Throws a [`JsonError`]. */
export function parse(text: string): Json {
  const parser = new Parser(text)
  const value = parser.value(0)
  parser.end()
  return value
}

/** Parses a text, or says that it is no JSON. */
export function tryParse(text: string): Json | undefined {
  try {
    return parse(text)
  } catch {
    return undefined
  }
}

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
const BLANK = /[ \t\n\r]*/y
// Ends at whatever needs a closer look: a quote, an escape, or a control character, which may not be here.
// eslint-disable-next-line no-control-regex
const PLAIN = /[^"\\\u0000-\u001f]*/y

class Parser {
  private at = 0

  constructor(private readonly text: string) {}

  value(depth: number): Json {
    if (depth > DEPTH_MAX) throw new JsonError('nested too deeply', this.at)
    this.blank()
    switch (this.text[this.at]) {
      case '{':
        return this.object(depth)
      case '[':
        return this.array(depth)
      case '"':
        return this.string()
      case 't':
        return this.word('true', true)
      case 'f':
        return this.word('false', false)
      case 'n':
        return this.word('null', null)
      default:
        return this.number()
    }
  }

  end(): void {
    this.blank()
    if (this.at < this.text.length) throw new JsonError('something follows the value', this.at)
  }

  private blank(): void {
    BLANK.lastIndex = this.at
    BLANK.exec(this.text)
    this.at = BLANK.lastIndex
  }

  private take(mark: string): boolean {
    this.blank()
    if (this.text[this.at] !== mark) return false
    this.at += 1
    return true
  }

  private expect(mark: string): void {
    if (!this.take(mark)) throw new JsonError(`expected ${mark}`, this.at)
  }

  private word<T>(word: string, value: T): T {
    if (!this.text.startsWith(word, this.at)) throw new JsonError('not a value', this.at)
    this.at += word.length
    return value
  }

  private number(): JsonNumber {
    NUMBER.lastIndex = this.at
    const found = NUMBER.exec(this.text)
    if (!found) throw new JsonError('not a value', this.at)
    this.at = NUMBER.lastIndex
    return new JsonNumber(found[0])
  }

  private string(): string {
    const start = this.at
    this.at += 1
    let escaped = false
    for (;;) {
      PLAIN.lastIndex = this.at
      PLAIN.exec(this.text)
      this.at = PLAIN.lastIndex
      const mark = this.text[this.at]
      if (mark === '"') break
      if (mark !== '\\') throw new JsonError('a text without its end', start)
      escaped = true
      this.at += 2
    }
    this.at += 1
    if (!escaped) return this.text.slice(start + 1, this.at - 1)
    try {
      // Only the escapes are left to do, and they are what the browser's own parser knows.
      return JSON.parse(this.text.slice(start, this.at)) as string
    } catch {
      throw new JsonError('an escape that is none', start)
    }
  }

  private array(depth: number): Json[] {
    this.expect('[')
    const items: Json[] = []
    if (this.take(']')) return items
    do items.push(this.value(depth + 1))
    while (this.take(','))
    this.expect(']')
    return items
  }

  private object(depth: number): JsonObject {
    this.expect('{')
    const members: [string, Json][] = []
    if (this.take('}')) return new JsonObject(members)
    do {
      this.blank()
      if (this.text[this.at] !== '"') throw new JsonError('expected a name', this.at)
      const name = this.string()
      this.expect(':')
      members.push([name, this.value(depth + 1)])
    } while (this.take(','))
    this.expect('}')
    return new JsonObject(members)
  }
}

const WHOLE = /^-?\d+$/

/** A number for arithmetic: exact for whole numbers, whatever their size. */
export function toNumber(number: JsonNumber): Int {
  const near = Number(number.text)
  if (WHOLE.test(number.text) && !Number.isSafeInteger(near)) return BigInt(number.text)
  return near
}

/** Plain objects and arrays, for the answers of the server, whose names do not repeat. */
export function plain(json: Json): unknown {
  if (json instanceof JsonNumber) return toNumber(json)
  if (Array.isArray(json)) return json.map(plain)
  if (json instanceof JsonObject) {
    return Object.fromEntries(json.members.map(([name, value]) => [name, plain(value)]))
  }
  return json
}

/** The text of a value: numbers as they came. Indented where `indent` says how far. */
export function stringify(json: Json, indent = 0): string {
  return write(json, indent > 0 ? ' '.repeat(indent) : '', '')
}

function write(json: Json, step: string, before: string): string {
  if (json === null || typeof json === 'boolean') return String(json)
  if (typeof json === 'string') return JSON.stringify(json)
  if (json instanceof JsonNumber) return json.text
  const [open, close] = Array.isArray(json) ? ['[', ']'] : ['{', '}']
  const inner = before + step
  const colon = step ? ': ' : ':'
  const items = Array.isArray(json)
    ? json.map((item) => write(item, step, inner))
    : json.members.map(([name, value]) => JSON.stringify(name) + colon + write(value, step, inner))
  if (items.length === 0) return open + close
  if (!step) return open + items.join(',') + close
  return `${open}\n${inner}${items.join(`,\n${inner}`)}\n${before}${close}`
}

/** Plain values as JSON for a request: a bigint keeps its digits, and a [`JsonNumber`] its text. */
export function encode(value: unknown): string {
  if (typeof value === 'bigint') return String(value)
  if (value instanceof JsonNumber) return value.text
  if (Array.isArray(value)) return `[${value.map(encode).join(',')}]`
  if (value !== null && typeof value === 'object') {
    const members = Object.entries(value).filter(([, member]) => member !== undefined)
    return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${encode(member)}`).join(',')}}`
  }
  return JSON.stringify(value)
}
