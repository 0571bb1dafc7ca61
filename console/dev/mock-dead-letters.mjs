// Made-up dead letters, as the HTTP API tells of them. With MOCK_LETTERS=10000 one failure has so many, with
// MOCK_EMPTY=1 there are none, and no services.
const EMPTY = process.env.MOCK_EMPTY === '1'
const LETTERS = Number(process.env.MOCK_LETTERS ?? 14)
const begun = Date.now()
const HOUR = 3_600_000

const FAILURES = [
  ['shipping', '56804b16', 'shipping::CarrierError', 'shipping::book_carrier', 'shipping', ['orders'], LETTERS, true, null],
  ['billing', '1f0a99c2', 'billing::NotBilled', 'billing::bill', 'billing-v2', ['payments', 'orders'], 3, true, null],
  ['analytics', '77aa01d4', 'serde_json::Error', 'courant::decode', 'analytics', ['analytics.page-views'], 1, false, 'no_key'],
]
const PARKED = { keys: 4, events: 37, held: 1, next_due_ms: null }
const EVENT = '019ad23a-6f10-7c9e-9a52-4c10c4a9e0'

const letters = EMPTY ? [] : FAILURES.flatMap(([service, group, error, place, consumer, topics, many], at) =>
  Array.from({ length: many }, (_, index) => ({
    service,
    letter: at * 100_000 + index + 1,
    consumer,
    generation: 1,
    topic: topics[0],
    partition: index % 4,
    offset: 301_000 + index,
    event_id: `${EVENT}${String(index).padStart(2, '0')}`,
    state: 'dead',
    reason: at === 2 ? 'undecodable' : index % 5 === 4 ? 'refused' : 'exhausted',
    blocks_key: index % 3 !== 0,
    edited: false,
    attempts: 5,
    first_failed_ms: begun - 3 * HOUR - index * 60_000,
    last_failed_ms: begun - HOUR - index * 60_000,
    group,
    error,
    place,
    code_version: '1.4.0',
    notes: [],
  })),
)
const redrives = new Map()
/** Services and keys whose parked events were given up. */
const emptied = new Set()

const shown = ({ notes: _notes, service: _service, ...letter }) => letter
const inList = (letter) => ({ ...shown(letter), edited: null })
const no = (answer, status, code, title, detail) => answer({ type: `urn:courant:problem:${code}`, title, status, detail, code }, status)

function failures() {
  const found = EMPTY ? [] : FAILURES.map(([service, group, error, place, consumer, topics, , operable, why]) => {
    const dead = letters.filter((one) => one.group === group && one.state === 'dead')
    return {
      service, group, consumer, error, place, letters: dead.length,
      oldest_ms: Math.min(...dead.map((one) => one.last_failed_ms)), newest_ms: Math.max(...dead.map((one) => one.last_failed_ms)), topics,
      parked: service === 'analytics' ? null : PARKED, seen_ms: Date.now(),
      service_state: service === 'analytics' ? 'silent' : 'running', operable, not_operable: why,
    }
  })
  return found.filter((one) => one.letters > 0)
}

const unknown = () => (EMPTY ? [] : ['fraud-check'])

function meant(service, which, state = 'dead') {
  return letters.filter(
    (one) =>
      one.service === service && one.state === state && (which.letters === undefined || which.letters.includes(one.letter)) &&
      (which.group === undefined || which.group === one.group) && (which.consumer === undefined || which.consumer === one.consumer),
  )
}

/** Whether it has answered. */
export function deadLetters(parts, method, query, body, answer) {
  if (parts[0] === 'services') services(parts, answer)
  else if (parts[0] === 'foreign-dead-letters') foreign(parts, query, answer, body)
  else if (parts[0] === 'dead-letters' && parts.length === 1) {
    const groups = failures().filter((one) => query.get('service') === null || one.service === query.get('service'))
    answer({ groups, letters: groups.reduce((sum, one) => sum + one.letters, 0), unknown: unknown(), next: null, total: groups.length })
  } else if (parts[0] === 'dead-letters') ofService(parts, method, query, body === '' ? {} : JSON.parse(body), answer)
  else return false
  return true
}

/** What does not go on. The one of analytics is silent. */
const STALLS = {
  shipping: [{ consumer: null, reason: 'refused', topic: 'shipments', partition: null, since_ms: begun - 2 * HOUR, times: 121 }],
  billing: [{ consumer: 'billing-v2', reason: 'unreadable', topic: 'payments', partition: 2, since_ms: begun - 3 * HOUR, times: 1804 }],
  analytics: [{ consumer: 'analytics', reason: 'no_topic', topic: 'analytics.page-views', partition: 0, since_ms: begun - HOUR, times: 7 }],
}

/** Billing has as much parked as it may; the others have room, as far as they say. */
function services(parts, answer) {
  const all = EMPTY ? [] : FAILURES.map(([service, , , , consumer, topics, , operable, why]) => {
    const isSilent = service === 'analytics'
    const parked_max = isSilent ? 0 : service === 'billing' ? 38 : 100_000
    const subscription = {
      consumer, generation: 1, topics, event_types: ['orders.order-placed'], passed: 0, parked: isSilent ? null : PARKED, full: service === 'billing', dead: null, partitions: [],
      policy: { effects: 'once', concurrency: 8, attempts: 5, exhausted: 'park_key', timeout_ms: 30_000, parked_max },
    }
    const state = isSilent ? 'silent' : 'running'
    const instance = {
      instance: `${EVENT}aa`, state, code_version: '1.4.0', courant_version: '0.1.0', engine: 'courant', store: 'SQLite', operations: true, started_ms: begun - HOUR,
      seen_ms: Date.now(), heartbeat_ms: 10_000, outbox: 0, requests: { applied: 0, refused: 0 }, subscriptions: [subscription], stalls: STALLS[service],
    }
    return {
      service, state, operable, not_operable: why, lag_events: null, lag_seconds: null, parked_keys: null, parked_events: null, dead_letters: null, outbox: 0, seen_ms: Date.now(),
      instances_running: isSilent ? 0 : 1, instances_total: 1, instances: [instance],
    }
  })
  if (parts.length === 1) return answer({ services: all, next: null, total: all.length, unreadable: 0 })
  const one = all.find(({ service }) => service === parts[1])
  return one ? answer(one) : no(answer, 404, 'service_not_found', 'There is no such service', 'no service of that name has announced itself')
}

function ofService([, service, what, id, more], method, query, body, answer) {
  if (what === 'groups') {
    const found = failures().find((one) => one.service === service && one.group === id)
    return found ? answer(found) : no(answer, 404, 'failure_not_found', 'There is no such failure', 'nobody has to decide about it')
  }
  if (service === 'analytics') return no(answer, 403, 'no_service_key', 'The service cannot be asked', 'this server has no key of the service analytics; set api.service-key-file')
  if (what === 'letters' && id === undefined) {
    const [after, limit] = [Number(query.get('after') ?? 0), Number(query.get('limit') ?? 100)]
    const fits = letters.filter((one) => one.service === service && one.group === query.get('group') && one.letter > after)
    const found = fits.filter((one) => query.get('state') === 'any' || one.state === (query.get('state') ?? 'dead'))
    return answer({ service, letters: found.slice(0, limit).map(inList), next: found.length > limit ? String(found[limit - 1].letter) : null })
  }
  if (what === 'export') {
    // Three pages are enough of them.
    const all = letters.filter((one) => one.service === service && one.group === query.get('group')).slice(0, 250)
    const found = all.filter((one) => one.letter > Number(query.get('after') ?? 0))
    const listed = found.slice(0, 100).map((one) => whole(service, one))
    return answer({ service, letters: listed, next: found.length > 100 ? String(found[99].letter) : null })
  }
  const letter = letters.find((one) => one.service === service && String(one.letter) === id)
  if (what === 'letters' && !letter) return no(answer, 404, 'letter_not_found', 'There is no such letter', `${service} has no letter ${id}`)
  if (what === 'letters' && more === 'edit') return edit(service, letter, body, answer)
  if (what === 'letters') return answer(whole(service, letter))
  if (what === 'redrives') return redriving(service, id, more, method, body, answer)
  if (what === 'discard-parked') return discardParked(service, body, answer)
  const found = meant(service, body.which, what === 'restore' ? 'archived' : 'dead')
  if (found.length === 0) return no(answer, 404, 'letter_not_found', 'No letter is meant', 'nobody has to decide about any of them')
  const listed = found.slice(0, 1000).map((one) => ({ letter: one.letter, position: `${one.topic}/${one.partition}@${one.offset}` }))
  if (body.execute) {
    for (const one of found) {
      one.state = { discard: 'discarded', archive: 'archived', restore: 'dead' }[what]
      one.notes.push({ action: what === 'restore' ? 'restored' : one.state, by: body.by ?? 'somebody', reason: body.reason, at_ms: Date.now() })
    }
  }
  return answer({ service, dry_run: !body.execute, action: what, count: found.length, letters: listed, others: [] })
}

/** Two events wait behind each letter that holds its key. */
function discardParked(service, { which, execute }, answer) {
  const name = [service, which.topic, which.partition, which.key].join('/')
  if (emptied.has(name)) return no(answer, 409, 'conflict', 'It contradicts what is there', 'nothing waits there but dead letters; decide about those')
  if (execute) emptied.add(name)
  return answer({ service, dry_run: !execute, count: 2, letters: 1, has_more: false })
}

function whole(service, letter) {
  const value = `{"orderId":"ORD-${1000 + (letter.letter % 900)}","customer":{"id":"CUST-7","country":"IS"},"cents":9007199254740993,"comment":"<img src=x onerror=window.owned=1>"}`
  return {
    service,
    letter: shown(letter),
    notes: letter.notes,
    record: {
      topic: letter.topic, partition: letter.partition, offset: letter.offset, timestamp: new Date(begun - 4 * HOUR).toISOString(), key: 'ORD-1007', value, value_format: 'json',
      headers: [{ key: 'ce_id', value: letter.event_id }, { key: 'ce_type', value: 'orders.order-placed' }, { key: 'content-type', value: 'application/json' }],
      size: value.length + 120, cloudevent: { id: letter.event_id, source: 'storefront', specversion: '1.0', type: 'orders.order-placed', correlationid: 'corr-7' },
    },
    record_missing: null,
    message: 'cannot book a carrier: unknown country IS\n  caused by: carrier answered 422 Unprocessable Entity',
    copy: { topic: `${letter.topic}.${letter.consumer}.dlq`, partition: 0, offset: letter.letter },
  }
}

function edit(service, letter, body, answer) {
  if (body.value === '"refused"') return no(answer, 409, 'conflict', 'The letter cannot be edited', 'a redrive has it')
  if (body.execute) {
    letter.edited = true
    letter.notes.push({ action: 'edited', by: body.by ?? 'somebody', reason: body.reason, at_ms: Date.now() })
  }
  return answer({ service, dry_run: !body.execute, letter: letter.letter, event_id: body.execute ? `${EVENT}ff` : null, original_event_id: body.execute ? letter.event_id : null })
}

/** A redrive takes two seconds, or what its rate makes of it; every seventh letter fails again. */
function told(redrive) {
  const share = redrive.cancelled ?? Math.min(1, (Date.now() - redrive.at) / redrive.takes)
  const over = Math.floor(share * redrive.letters.length)
  const results = redrive.letters.map((one, index) => {
    const result = index < over ? (index % 7 === 6 ? 'failed' : 'handled') : redrive.cancelled !== undefined ? 'cancelled' : index === over ? 'delivering' : 'pending'
    one.state = result === 'handled' ? 'redriven' : result === 'pending' || result === 'delivering' ? 'redriving' : 'dead'
    return { letter: one.letter, result, since_ms: redrive.at + index * 10, state: one.state }
  })
  const many = (name) => results.filter(({ result }) => result === name).length
  const isOver = many('pending') + many('delivering') === 0
  const state = !isOver ? 'running' : redrive.cancelled === undefined ? 'done' : 'cancelled'
  const shown = {
    id: redrive.id, state, requested_by: redrive.by, requested_ms: redrive.at, finished_ms: isOver ? redrive.at + redrive.takes : null, filter: '{}', letters: results.length,
    pending: many('pending'), delivering: many('delivering'), handled: many('handled'), failed: many('failed'), cancelled: many('cancelled'),
  }
  return { shown, results }
}

function redriving(service, id, more, method, body, answer) {
  if (id === undefined) {
    const found = meant(service, body.which)
    const [one] = found
    const planned = one ? [{ consumer: one.consumer, topic: one.topic, error: one.error, place: one.place, letters: found.length, attempts: found.length * 5, repeats: 'calls to other systems' }] : []
    if (!body.execute) return answer({ service, dry_run: true, letters: found.length, planned, redrive: null, was_known: false })
    const made = { id: body.id ?? String(redrives.size), letters: found, by: body.by ?? 'somebody', at: Date.now(), takes: body.rate ? (found.length / body.rate) * 1000 : 2000 }
    redrives.set(made.id, made)
    return answer({ service, dry_run: false, letters: found.length, planned: [], redrive: told(made).shown, was_known: false })
  }
  const redrive = redrives.get(id)
  if (!redrive) return no(answer, 404, 'redrive_not_found', 'There is no such redrive', `${service} knows of no redrive ${id}`)
  if (more === 'cancel' && method === 'POST') redrive.cancelled = Math.min(1, (Date.now() - redrive.at) / redrive.takes)
  const { shown, results } = told(redrive)
  return answer(more === 'results' ? { redrive: id, results: results.slice(0, 1000), next: null, total: results.length } : shown)
}

function foreign(parts, query, answer, body) {
  if (parts.length === 1) return answer({ topics: EMPTY ? [] : [{ topic: 'orders-dlt', records: 12 }] })
  const groups = [
    { group: 'a1b2c3d4', framework: 'spring-kafka', original: 'orders', consumer: 'desk', error: 'java.lang.IllegalStateException', letters: 11, oldest_ms: begun - HOUR, newest_ms: begun - 60_000, newest: { partition: 0, offset: 11 } },
    { group: 'e5f6a7b8', framework: 'kafka-connect', original: null, consumer: null, error: null, letters: 1, oldest_ms: null, newest_ms: null, newest: { partition: 0, offset: 3 } },
  ]
  if (parts.length === 2) return answer({ topic: parts[1], groups, records: 120_000, scanned: 100_000, is_complete: false })
  const found = Array.from({ length: 12 }, (_, offset) => ({
    letter: `0@${offset}`, partition: 0, offset, framework: 'spring-kafka', original: offset === 3 ? null : 'orders', original_partition: offset === 3 ? null : 2, original_offset: offset === 3 ? null : 257 + offset,
    original_timestamp_ms: begun - HOUR, consumer: offset === 3 ? null : 'desk', timestamp_ms: offset === 3 ? null : begun - HOUR + offset * 1000, group: offset === 3 ? 'e5f6a7b8' : 'a1b2c3d4',
    error: offset === 3 ? null : 'java.lang.IllegalStateException', wrapped_in: 'org.springframework.kafka.listener.ListenerExecutionFailedException', message: offset === 3 ? null : 'no desk takes <b>this</b>', state: 'dead',
  }))
  if (parts[2] === 'discard') {
    const asked = JSON.parse(body)
    const meant = found.filter((one) => one.group === asked.which.group).map((one) => one.letter)
    return answer({ topic: parts[1], dry_run: !asked.execute, count: meant.length, letters: meant, others: [] })
  }
  const wanted = query.get('group')
  return answer({ topic: parts[1], letters: wanted ? found.filter((one) => one.group === wanted) : found, next: null })
}
