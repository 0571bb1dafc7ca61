// Requests to the server that the page came from. Numbers in answers are exact: see `json.ts`.

import { encode, parse, plain } from '../json'
import { server } from '../server.svelte'

const PREFIX = '/api/v1'

/** How long an answer may take. */
const PATIENCE_MS = 30_000

/** The server answered, and the answer is no. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly title: string,
    readonly detail: string,
  ) {
    super(detail || title)
  }
}

/** The server did not answer. */
export class Unreachable extends Error {}

export type Query = Record<string, string | number | bigint | boolean | null | undefined>

export interface Asked {
  method?: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  query?: Query
  /** Sent as JSON. */
  json?: unknown
  /** Sent as it is. */
  body?: string
  headers?: Record<string, string>
  signal?: AbortSignal
}

/** A path below the API's prefix with its query. */
export function withQuery(path: string, query: Query = {}): string {
  const asked = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== '') asked.set(name, String(value))
  }
  return asked.size > 0 ? `${path}?${asked}` : path
}

/** The address of a path of the API. */
export function address(path: string, query: Query = {}): string {
  return PREFIX + withQuery(path, query)
}

/** One part of a path. */
export function part(text: string | number | bigint): string {
  return encodeURIComponent(String(text))
}

function request(asked: Asked): RequestInit {
  const headers = new Headers(asked.headers)
  if (server.token) headers.set('authorization', `Bearer ${server.token}`)
  const init: RequestInit = { method: asked.method ?? 'GET', headers, cache: 'no-store', credentials: 'same-origin' }
  if (asked.json !== undefined) {
    headers.set('content-type', 'application/json')
    init.body = encode(asked.json)
  } else if (asked.body !== undefined) {
    init.body = asked.body
  }
  return init
}

/** Sends a request and hands back an answer that is no problem. */
export async function send(path: string, asked: Asked, signal: AbortSignal): Promise<Response> {
  let response: Response
  try {
    response = await fetch(address(path, asked.query), { ...request(asked), signal })
  } catch (error) {
    if (asked.signal?.aborted) throw error
    server.lost()
    throw new Unreachable('The server does not answer.')
  }
  server.found()
  if (response.ok) return response
  const problem = await problemOf(response)
  if (problem.status === 401) server.locked()
  throw problem
}

/** Asks for JSON. */
export async function ask<T>(path: string, asked: Asked = {}): Promise<T> {
  return (await answer<T>(path, asked)).body
}

/** Asks for JSON, and hands back the answer's headers with it. */
export async function answer<T>(path: string, asked: Asked = {}): Promise<{ body: T; headers: Headers }> {
  const late = AbortSignal.timeout(PATIENCE_MS)
  const signal = asked.signal ? AbortSignal.any([asked.signal, late]) : late
  const response = await send(path, asked, signal)
  let text: string
  try {
    text = await response.text()
  } catch (error) {
    if (asked.signal?.aborted) throw error
    server.lost()
    throw new Unreachable('The server went away in the middle of its answer.')
  }
  // What this page asks for has the shapes of `types.ts`, by the server's own document.
  return { body: (text.trim() === '' ? null : plain(parse(text))) as T, headers: response.headers }
}

async function problemOf(response: Response): Promise<Problem> {
  const text = await response.text().catch(() => '')
  try {
    const body = plain(parse(text)) as Partial<Problem>
    return new Problem(response.status, String(body.code), String(body.title), String(body.detail ?? ''))
  } catch {
    const title = `The server answered ${response.status} ${response.statusText}`.trim()
    return new Problem(response.status, 'unknown', title, text.slice(0, 500))
  }
}

/** Whether a request was given up by who made it, which is no news. */
export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'AbortError'
}
