// The same thing as a command: what the console does, a shell can do too.

/** A word for a POSIX shell. */
export function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}

/** A command line. Words that are undefined are left out. */
export function command(...words: (string | undefined)[]): string {
  return words
    .filter((word) => word !== undefined)
    .map(quote)
    .join(' ')
}

export interface CurlAsked {
  method?: string
  headers?: readonly (readonly [string, string])[]
  body?: string
  /** For streams: every piece as it comes. */
  streams?: boolean
}

/** A request as a `curl` line. A credential is named by its variable and never written out. */
export function curl(url: string, asked: CurlAsked = {}, hasToken = false): string {
  const words = ['curl', asked.streams ? '-sN' : '-s']
  if (asked.method && asked.method !== 'GET') words.push('-X', asked.method)
  for (const [name, value] of asked.headers ?? []) words.push('-H', quote(`${name}: ${value}`))
  if (hasToken) words.push('-H', '"Authorization: Bearer $COURANT_TOKEN"')
  if (asked.body !== undefined) words.push('--data-binary', quote(asked.body))
  return [...words, quote(url)].join(' ')
}
