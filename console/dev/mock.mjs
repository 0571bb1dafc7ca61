// A server with the shapes of the HTTP API and made-up data, for work on the screens: `npm run mock`, after
// `npm run build`. With MOCK_TOPICS=10000 it has so many topics, with MOCK_EMPTY=1 nothing.
import { createServer } from 'node:http'
import { readFile } from 'node:fs/promises'
import { deadLetters } from './mock-dead-letters.mjs'
import { traces } from './mock-traces.mjs'

const PORT = Number(process.env.MOCK_PORT ?? 8099)
const TOPICS = Number(process.env.MOCK_TOPICS ?? 0)
const EMPTY = process.env.MOCK_EMPTY === '1'
const dist = new URL('../../crates/courant-console/assets/dist/', import.meta.url)
const begun = Date.now()

const TYPES = { html: 'text/html; charset=utf-8', js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml' }
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

const partition = (topic, number, start, end) => ({ topic, partition: number, leader: 1, start, end, events: end - start, bytes: (end - start) * 180 })
const names = ['orders', 'payments', 'inventory', 'shipments', 'customers', 'order-fulfilment.retries', 'fraud.signals', 'analytics.page-views', '_courant.audit']
const topics = EMPTY ? [] : names.map((name, index) => make(name, index === 0 ? 4 : (index % 3) + 1, [1204331, 998120, 40012, 20881, 3112, 14, 0, 88123041, 37][index]))
for (let index = 0; index < TOPICS; index += 1) topics.push(make(`load.topic-${String(index).padStart(5, '0')}`, 1, index * 7))

function make(name, partitions, events) {
  const each = Math.floor(events / partitions)
  return {
    name,
    id: `id-of-${name}`,
    parts: Array.from({ length: partitions }, (_, number) => partition(name, number, number * 100, number * 100 + each + (number === 0 ? events % partitions : Math.floor(number * each * 0.04)))),
    internal: name.startsWith('_courant.'),
    fresh: [],
  }
}

const groups = EMPTY
  ? []
  : [
      ['analytics', 'Stable', 3, 12890, 192.4, 310.5, ['orders', 'analytics.page-views']],
      ['billing', 'Stable', 2, 41, 2.31, -12, ['orders', 'payments']],
      ['warehouse', 'Empty', 0, 4120, 86500, 0, ['shipments']],
      ['shipping', 'PreparingRebalance', 1, 0, 0, 0, ['shipments', 'inventory']],
      ['fraud-check', 'Stable', 1, null, null, null, ['payments']],
      ['mailer', 'Stable', 1, 0, 0, 0, ['orders']],
    ]

const listed = (topic) => ({
  name: topic.name,
  id: topic.id,
  partitions: topic.parts.length,
  events: topic.parts.reduce((sum, part) => sum + part.events, 0),
  bytes: topic.parts.reduce((sum, part) => sum + part.bytes, 0),
  groups: groups.filter((group) => group[6].includes(topic.name)).length,
  internal: topic.internal,
})

const countries = ['NO', 'DE', 'IS', 'FR', 'NL']
const types = ['orders.order-placed', 'orders.order-paid', 'orders.order-shipped', 'orders.order-cancelled']

function record(topic, number, offset, at) {
  const seed = offset * 7 + number
  if (topic.fresh.some((one) => one.partition === number && one.offset === offset)) {
    return topic.fresh.find((one) => one.partition === number && one.offset === offset)
  }
  let value = `{"orderId":"ORD-${1000 + (seed % 900)}","customer":{"id":"CUST-${seed % 97}","country":"${countries[seed % 5]}"},"lines":[{"sku":"A-${seed % 40}","quantity":${(seed % 4) + 1},"price":${(seed % 90) + 0.5}}],"total":${(seed % 500) + 0.99},"sequence":${offset % 5 === 0 ? '9007199254740993' : seed},"express":${seed % 3 === 0},"note":null}`
  if (offset % 11 === 3) value = `{"orderId":"ORD-X","comment":"<script>document.title='owned'</script><img src=x onerror=\\"document.title='owned'\\">"}`
  const isTombstone = offset % 17 === 5
  const isBytes = offset % 23 === 7
  const headers = [['ce_id', `01990000-0000-7000-8000-${String(offset).padStart(12, '0')}`], ['ce_source', '/storefront'], ['ce_specversion', '1.0'], ['ce_type', types[seed % 4]], ['ce_correlationid', `corr-${seed % 60}`], ['content-type', 'application/json'], ['traceparent', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01']]
  const base = {
    topic: topic.name, partition: number, offset,
    timestamp: new Date(at).toISOString(),
    key: offset % 13 === 2 ? null : `ORD-${1000 + (seed % 900)}`,
  }
  const size = 90 + value.length
  const shown = headers.map(([key, value]) => ({ key, value }))
  const cloudevent = Object.fromEntries(headers.filter(([key]) => key.startsWith('ce_')).map(([key, value]) => [key.slice(3), value]))
  if (isTombstone) return { ...base, value: null, headers: [], size: 12, cloudevent: null }
  if (isBytes) return { ...base, value: Buffer.from([0xff, 0, 1, 2, 0xfe, ...Buffer.from('courant bytes that are no text')]).toString('base64'), value_encoding: 'base64', headers: [], size: 35, cloudevent: null }
  return { ...base, value, value_format: 'json', headers: shown, size, cloudevent: { ...cloudevent, datacontenttype: 'application/json' } }
}

// Busy topics grow; whoever follows them is told.
const followers = new Set()
if (!EMPTY) {
  setInterval(() => {
    for (const topic of topics.slice(0, 2)) {
      const part = topic.parts[Math.floor(Math.random() * topic.parts.length)]
      const offset = part.end
      part.end += 1
      part.events += 1
      const made = record(topic, part.partition, offset, Date.now())
      for (const follower of followers) follower(topic.name, made)
    }
  }, 160).unref()
}

const searches = new Map()

const json = (response, body, status = 200) => {
  response.writeHead(status, { 'content-type': status < 400 ? 'application/json' : 'application/problem+json', 'cache-control': 'no-store' })
  response.end(JSON.stringify(body))
}
const problem = (response, status, code, title, detail) => json(response, { type: `urn:courant:problem:${code}`, title, status, detail, code }, status)

function page(rows, query, name) {
  const filter = (query.get('filter') ?? '').toLowerCase()
  const limit = Number(query.get('limit') ?? 100)
  const found = rows.filter((row) => row.name.toLowerCase().includes(filter)).sort((a, b) => (a.name < b.name ? -1 : 1))
  const left = found.filter((row) => row.name > (query.get('after') ?? ''))
  const shown = left.slice(0, limit)
  return { [name]: shown, next: left.length > limit ? shown.at(-1).name : null, total: found.length }
}

function groupRow([name, state, members, lag, seconds]) {
  return { name, state, protocol_type: 'consumer', members, topics: 1, lag, lag_seconds: seconds, sampled_ms: seconds === null ? null : Date.now() - 20_000 }
}

function recordsPage(topic, query) {
  const wanted = query.get('partition')?.split(',').map(Number)
  const after = query.get('after')
  const limit = Number(query.get('limit') ?? 100)
  const places = after ? new Map(after.split('.').slice(2).map((word) => word.split('-').map(Number))) : null
  const parts = topic.parts.filter((part) => !wanted || wanted.includes(part.partition))
  const from = query.get('from') ?? 'start'
  const rows = []
  const partitions = []
  for (const part of parts) {
    let next = places?.get(part.partition) ?? part.start
    if (!places && from.startsWith('-')) next = Math.max(part.start, part.end - Number(from.slice(1)))
    else if (!places && /^\d+$/.test(from)) next = Math.min(Number(from), part.end)
    else if (!places && from.startsWith('@')) next = Math.max(part.start, part.end - 40)
    const each = Math.ceil(limit / parts.length)
    const end = Math.min(part.end, next + each)
    for (let offset = next; offset < end; offset += 1) rows.push(record(topic, part.partition, offset, Date.now() - (part.end - offset) * 610 - part.partition * 97))
    partitions.push({ partition: part.partition, start: part.start, end: part.end, next: end })
  }
  rows.sort((a, b) => (a.timestamp < b.timestamp ? -1 : 1))
  const isOver = partitions.every((part) => part.next >= part.end)
  return { topic: topic.name, records: rows, gaps: [], partitions, next: isOver ? null : `1.x${partitions.map((part) => `.${part.partition}-${part.next}`).join('')}` }
}

function history(topic) {
  const points = []
  for (let minute = 180; minute >= 0; minute -= 1) {
    const wave = Math.max(0, Math.sin((180 - minute) / 26) * 60 + (180 - minute) * 0.9 - 20)
    const isUnknown = minute > 120 && minute < 132
    points.push({ at_ms: begun - minute * 60_000, events: isUnknown ? null : Math.round(wave * 71), seconds: isUnknown ? null : Number(wave.toFixed(2)) })
  }
  return { group: 'x', topic, interval_seconds: 60, points }
}

function searchShown(search) {
  const share = Math.min(1, (Date.now() - search.at) / 4000)
  const isOver = search.cancelled || share === 1
  const found = Math.floor(share * 37)
  return { id: search.id, status: search.cancelled ? 'cancelled' : isOver ? 'done' : 'running', reason: null, topics: [search.topic.name], scanned: Math.floor(share * 1204331), of: 1204331, bytes: 1, found, kept: found, rate: 410000, elapsed_ms: Date.now() - search.at, gaps: [], gaps_left_out: 0, expires_in_ms: null, isOver }
}

const server = createServer(async (request, response) => {
  const url = new URL(request.url, 'http://localhost')
  const path = url.pathname
  const chunks = []
  for await (const chunk of request) chunks.push(chunk)
  const body = Buffer.concat(chunks).toString()
  if (!path.startsWith('/api/v1/')) return file(path, response)
  const parts = path.slice('/api/v1/'.length).split('/').map(decodeURIComponent)
  const topic = topics.find((one) => one.name === parts[1])
  if (parts[0] === 'health') {
    return json(response, {
      status: 'ready', version: '0.1.0', log_id: '0f9a4d4e-7d1a-4c52-9d53-5c2f9a1a77e1', uptime_seconds: Math.floor((Date.now() - begun) / 1000) + 93784, now_ms: Date.now(), read_only: process.env.MOCK_READ_ONLY === '1', demo: process.env.MOCK_EMPTY !== '1',
      checks: [
        { name: 'log', status: 'ok', detail: null },
        { name: 'disk', status: 'warn', detail: '2104533975 of 63278391296 bytes are free' },
        { name: 'damage', status: 'ok', detail: null },
        { name: 'lag_history', status: 'ok', detail: null },
      ],
      limits: { partitions: 100000, partitions_per_topic: 10000, batch_bytes: 104857600, page_rows: 1000, history_points: 1440 },
    })
  }
  if (parts[0] === 'demo') return demo(parts, request.method, body, response)
  if (parts[0] === 'topics' && parts.length === 1) return json(response, page(topics.map(listed), url.searchParams, 'topics'))
  if (parts[0] === 'topics' && !topic) return problem(response, 404, 'topic_not_found', 'There is no such topic', `there is no topic ${JSON.stringify(parts[1])}; GET /api/v1/topics lists them`)
  if (parts[0] === 'topics' && parts.length === 2) {
    return json(response, {
      ...listed(topic),
      group_names: groups.filter((group) => group[6].includes(topic.name)).map((group) => group[0]),
      configs: [
        { name: 'cleanup.policy', value: 'delete', source: 'default', doc: 'What becomes of old events: delete, compact or both' },
        { name: 'max.message.bytes', value: '1048588', source: 'default', doc: 'Largest batch, in bytes' },
        { name: 'retention.ms', value: '604800000', source: 'topic', doc: 'How long events are kept, in milliseconds; -1 is for ever' },
        { name: 'courant.durability', value: 'disk', source: 'default', doc: 'When an append is acknowledged: on disk, or written and on disk later' },
      ],
    })
  }
  if (parts[2] === 'partitions') return json(response, { partitions: topic.parts, next: null, total: topic.parts.length })
  if (parts[2] === 'records' && parts.length === 3) return json(response, recordsPage(topic, url.searchParams))
  if (parts[2] === 'records') {
    const [number, offset] = [Number(parts[3]), Number(parts[4])]
    const part = topic.parts[number]
    if (!part || offset >= part.end || offset < part.start) return problem(response, 404, 'record_not_found', 'There is no such record', `${topic.name}/${number} has no record at offset ${offset}; the partition has offsets from ${part?.start} on, and the next one will be ${part?.end}`)
    return json(response, record(topic, number, offset, Date.now() - (part.end - offset) * 610))
  }
  if (parts[2] === 'events' && request.method === 'POST') {
    const part = topic.parts[0]
    const offset = part.end
    part.end += 1
    part.events += 1
    const made = { topic: topic.name, partition: 0, offset, timestamp: new Date().toISOString(), key: request.headers['ce-partitionkey'] ?? url.searchParams.get('key'), value: body, value_format: 'json', headers: [], size: body.length, cloudevent: null }
    topic.fresh.push(made)
    for (const follower of followers) follower(topic.name, made)
    return json(response, { events: [{ id: request.headers['ce-id'] ?? null, topic: topic.name, partition: 0, offset }] })
  }
  if (parts[0] === 'groups' && parts.length === 1) return json(response, page(groups.map(groupRow), url.searchParams, 'groups'))
  const group = groups.find((one) => one[0] === parts[1])
  if (parts[0] === 'groups' && !group) return problem(response, 404, 'group_not_found', 'There is no such group', `there is no group ${JSON.stringify(parts[1])}; GET /api/v1/groups lists them`)
  if (parts[0] === 'groups' && parts[2] === 'history') return json(response, history(url.searchParams.get('topic')))
  if (parts[0] === 'groups') {
    const [name, state, members, lag, seconds, perMinute, of] = group
    return json(response, {
      name, state, protocol_type: 'consumer', protocol: 'range', members_total: members,
      members: [], topics: Object.fromEntries(of.map((topic) => [topic, { events: lag, seconds, events_per_minute: perMinute }])),
      topics_total: of.length, total: { events: lag, seconds },
      partitions: of.flatMap((name) => topics.find((one) => one.name === name).parts.map((part) => ({
        topic: name, partition: part.partition, committed: lag === null ? null : part.end - Math.min(lag, 30), end: part.end, lag: lag === null ? null : Math.min(lag, 30), lag_seconds: seconds, client_id: members > 0 ? `${group[0]}-${part.partition % members}` : null, host: members > 0 ? '/127.0.0.1' : null,
      }))),
      next: null, partitions_total: 4,
    })
  }
  if (deadLetters(parts, request.method, url.searchParams, body, (answer, status) => json(response, answer, status))) return undefined
  if (traces(parts, url.searchParams, (answer, status) => json(response, answer, status))) return undefined
  if (parts[0] === 'searches') return search(parts, request.method, body, response)
  if (parts[0] === 'tail') return tail(url.searchParams, response)
  return problem(response, 404, 'not_found', 'There is nothing at this address', 'there is nothing here')
})

const demoSwitches = new Map([
  ['carrier', { id: 'carrier', title: 'The carrier', on: false }],
  ['analytics', { id: 'analytics', title: 'Analytics', on: false }],
  ['gateway', { id: 'gateway', title: "The partner's gateway", on: false }],
  ['broker', { id: 'broker', title: 'The line to the broker', on: false }],
])
let demoLetters = 0
const demoSeen = new Map([['flowing', '3 orders were placed, 1 of them shipped']])
const demoTicks = [
  ['flowing', 'An order goes through five services', 'Wait a moment: orders come by themselves'],
  ['parked', 'A poison parks one customer', 'Let the carrier forget Iceland; its customer there orders at once'],
  ['others', 'Everybody else is served meanwhile', 'Watch parcels leave while the dead letter is there'],
  ['redriven', 'Repaired and sent back, in order', 'Let the carrier know Iceland again, then send the dead letters back'],
  ['behind', 'A slow consumer falls behind', 'Make analytics slow, and watch its lag'],
  ['caught_up', 'It catches up', 'Make analytics fast again'],
  ['repeated', 'Repetitions are ignored', "Turn the partner's gateway on: it sends each order three times"],
  ['away', 'The broker is away, and orders are taken', 'Cut the services off from the broker, and after a few orders let them back'],
]

/** What each turn of a switch makes happen. */
function turned(id, on) {
  if (id === 'carrier' && on) {
    demoLetters = 1
    demoSeen.set('parked', '1 dead letter, and 2 events of its customer wait behind it').set('others', '4 parcels of other customers have left since')
  }
  if (id === 'analytics') demoSeen.set(on ? 'behind' : 'caught_up', on ? 'analytics was 20 events behind' : 'after 0.4 s it was 5 events behind')
  if (id === 'gateway') demoSeen.set('repeated', '2 repetitions came, and no order was paid twice')
  if (id === 'broker' && !on) demoSeen.set('away', '12 orders were taken meanwhile, and all of them have left')
}

function demo(parts, method, body, response) {
  if (process.env.MOCK_EMPTY === '1') return problem(response, 404, 'not_found', 'There is nothing at this address', 'there is nothing here without a demo')
  if (method === 'POST' && parts[1] === 'redrive') {
    const letters = demoLetters
    demoLetters = 0
    if (letters > 0) demoSeen.set('redriven', '1 handled at last, and no parcel has overtaken another')
    return json(response, { letters })
  }
  if (method === 'POST') {
    const one = demoSwitches.get(parts[2])
    one.on = JSON.parse(body).on
    turned(one.id, one.on)
    return json(response, one)
  }
  const waits = demoSwitches.get('broker').on ? 17 : 0
  return json(response, {
    seed: 1, speed: 1, script: false, switches: [...demoSwitches.values()],
    ticks: demoTicks.map(([id, title, to_do]) => ({ id, title, to_do, done: demoSeen.has(id), seen: demoSeen.get(id) ?? null })),
    figures: { placed: 1204, declined: 96, shipped: 1102, outbox: waits, dead_letters: demoLetters, parked: demoLetters * 2, lag: 3 },
  })
}

function search(parts, method, body, response) {
  if (method === 'POST') {
    const asked = JSON.parse(body)
    const made = { id: String(searches.size + 1), at: Date.now(), topic: topics.find((one) => one.name === asked.topics[0]), cancelled: false }
    searches.set(made.id, made)
    return json(response, searchShown(made), 202)
  }
  const found = searches.get(parts[1])
  if (!found) return problem(response, 404, 'search_not_found', 'There is no such search', 'there is no such search')
  if (method === 'DELETE') found.cancelled = true
  const shown = searchShown(found)
  if (parts[2] !== 'results') return json(response, shown)
  const after = Number(new URL(`http://x/?${''}`).searchParams.get('after') ?? found.sent ?? 0)
  const records = []
  for (let index = after; index < shown.found; index += 1) records.push(record(found.topic, index % 4, 500 + index * 11, Date.now() - 1e6 + index * 5000))
  found.sent = shown.found
  return json(response, { status: shown.status, records, next: shown.isOver ? null : String(shown.found) })
}

function tail(query, response) {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
  const say = (event, data, id) => response.write(`event: ${event}\n${id ? `id: ${id}\n` : ''}data: ${JSON.stringify(data)}\n\n`)
  say('open', { stream: 's1', resumed: false, heartbeat_ms: 10000 })
  const name = query.get('topics')
  const topic = topics.find((one) => one.name === name)
  for (const one of recordsPage(topic, new URLSearchParams({ from: query.get('from') ?? 'end' })).records) say('record', one, 's1')
  const follower = (of, made) => {
    if (of === name) say('record', made, 's1')
  }
  followers.add(follower)
  response.on('close', () => followers.delete(follower))
}

async function file(path, response) {
  const wanted = path === '/' || !path.includes('.') || path.startsWith('/topics/') || path.startsWith('/e/') ? 'index.html' : path.slice(1)
  try {
    const bytes = await readFile(new URL(wanted, dist))
    response.writeHead(200, { 'content-type': TYPES[wanted.split('.').pop()] ?? 'application/octet-stream', 'content-security-policy': POLICY })
    response.end(bytes)
  } catch {
    response.writeHead(404).end('not here; run `npm run build` first\n')
  }
}

server.listen(PORT, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`))
