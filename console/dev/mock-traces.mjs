// Made-up traces, as the HTTP API tells of them: `corr-N` is an order with a failure in it, `large` has
// MOCK_NODES events (1200), `deep` is a chain of 60. With MOCK_EMPTY=1 there are none.
const EMPTY = process.env.MOCK_EMPTY === '1'
const NODES = Number(process.env.MOCK_NODES ?? 1200)
const begun = Date.now() - 60_000

const index = {
  state: 'following', events: EMPTY ? 0 : 40_213, events_max: 225_000, seen: EMPTY ? 0 : 1_204_331, without_correlation: EMPTY ? 0 : 8_112, behind: 0, passed_over: 0,
  complete_since: EMPTY ? null : new Date(begun - 86_400_000).toISOString(),
}

const id = (n) => `019ad23a-6f10-7c9e-9a52-${String(n).padStart(12, '0')}`

function node(n, parent, type, source, topic, after, more = {}) {
  return {
    n, parent, parent_state: parent === null ? 'root' : 'known', depth: 0, kind: 'event', event_id: id(n), type, source, topic, partition: n % 3, offset: 301_000 + n,
    time: after === null ? null : new Date(begun + after).toISOString(), key: 'ORD-1007', correlation_id: 'corr-7', causation_id: parent === null ? null : id(parent), size: 412,
    duplicate: false, dead_letter: null, gone: null, ...more,
  }
}

const ORDER = [
  node(0, null, 'order.placed', 'storefront', 'orders', 0),
  node(1, 0, 'payment.requested', 'payments', 'payments', 12, { kind: 'command' }),
  node(2, 1, 'payment.processed', 'payments', 'payments', 240),
  node(3, 2, 'inventory.reserved', 'inventory', 'inventory', 260),
  node(4, 3, 'shipment.requested', 'shipping', 'shipments', 262, { kind: 'command' }),
  node(5, 4, 'shipment.requested', 'shipping', 'shipments.shipping.dlq', 9300, {
    kind: 'dead_letter', event_id: id(4),
    dead_letter: { consumer: 'shipping', attempts: 5, error_type: 'shipping::CarrierError', error: 'unknown country IS', topic: 'shipments', partition: 0, offset: 17 },
  }),
  node(6, 4, 'order.shipped', 'shipping', 'orders', 14_400_000),
  node(7, 0, 'page.viewed', null, 'analytics.page-views', 13, { key: null }),
  node(8, 0, null, null, 'orders', null, { kind: 'gone', gone: 'retention has deleted the record' }),
  node(9, null, 'fraud.checked', 'fraud-check', 'fraud.signals', 300, { parent_state: 'unknown', causation_id: id(777) }),
  node(10, null, 'fraud.noted', 'fraud-check', 'fraud.signals', 320, { parent_state: 'unknown', causation_id: id(777) }),
]

const large = Array.from({ length: NODES }, (_, n) => node(n, n === 0 ? null : Math.floor((n - 1) / 4), `step.${n}`, `service-${n % 6}`, 'orders', n * 7))
const deep = Array.from({ length: 60 }, (_, n) => node(n, n === 0 ? null : n - 1, 'message.forwarded', `relay-${n % 3}`, 'orders', n * 40))

function trace(name) {
  if (name === 'large') return { nodes: large, unknown: [] }
  if (name === 'deep') return { nodes: deep, unknown: [] }
  const isOrder = /^corr-\d+$/.test(name) || name.startsWith('019ad23a') || /^[\da-f]{32}$/.test(name)
  return isOrder ? { nodes: ORDER, unknown: [{ event_id: id(777), children: [9, 10] }] } : null
}

/** Whether it has answered. */
export function traces(parts, query, answer) {
  if (parts[0] !== 'traces') return false
  if (parts.length === 1) {
    const all = EMPTY ? [] : Array.from({ length: 250 }, (_, at) => ({
      id: at === 4 ? null : at === 1 ? 'large' : at === 2 ? 'deep' : `corr-${at}`, joined_by: at === 4 ? null : 'correlation', events: at === 1 ? NODES : 11, dead_letters: at % 3 === 0 ? 1 : 0,
      first: new Date(begun - at * 61_000).toISOString(), last: new Date(begun - at * 61_000 + 9300).toISOString(), begins_before: at === 5,
      root: at === 4 ? null : { type: at === 6 ? null : 'order.placed', source: at === 6 ? null : 'storefront', topic: 'orders', partition: at % 3, offset: 301_000 + at, key: `ORD-${1000 + at}` },
    }))
    const fits = all.filter((one) => query.get('failed') !== 'true' || one.dead_letters > 0)
    const [from, limit] = [Number(query.get('after') ?? 0), Number(query.get('limit') ?? 100)]
    answer({ traces: fits.slice(from, from + limit), next: fits.length > from + limit ? String(from + limit) : null, index })
    return true
  }
  const found = trace(parts[1])
  if (!found) {
    answer({ type: 'urn:courant:problem:trace_not_found', title: 'There is no such trace', status: 404, detail: `no event in the index has ${JSON.stringify(parts[1])}`, code: 'trace_not_found' }, 404)
    return true
  }
  const [from, limit] = [Number(query.get('after') ?? 0), Number(query.get('limit') ?? 500)]
  const isEvent = parts[1].startsWith('019ad23a')
  answer({
    id: isEvent ? 'corr-7' : parts[1], joined_by: 'correlation', asked_event: isEvent ? (found.nodes.find((one) => one.event_id === parts[1])?.n ?? null) : null, events: found.nodes.length,
    dead_letters: found.nodes.filter((one) => one.kind === 'dead_letter').length, first: found.nodes[0].time, last: new Date(Math.max(...found.nodes.map((one) => (one.time === null ? 0 : Date.parse(one.time))))).toISOString(),
    begins_before: false, left_out: 0, nodes: found.nodes.slice(from, from + limit), unknown_parents: found.unknown, next: found.nodes.length > from + limit ? String(from + limit) : null, index,
  })
  return true
}
