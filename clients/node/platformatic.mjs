// Drives a server with @platformatic/kafka; clients/python/lines.py says what is spoken.

import { randomUUID } from 'node:crypto'

import {
  Admin,
  Consumer,
  ListOffsetTimestamps,
  MessagesStreamFallbackModes,
  MessagesStreamModes,
  Producer,
  compressionsAlgorithms,
  defaultPartitioner
} from '@platformatic/kafka'

import { Member, chunks, emit, emitRecord, fail, main, records, toBytes, unsupported } from './lines.mjs'

const { EARLIEST, MANUAL, COMMITTED } = MessagesStreamModes

const base = ({ server }) => ({ clientId: 'acceptance', bootstrapBrokers: [server] })

async function create (args) {
  const admin = new Admin(base(args))
  await admin.createTopics({ topics: [args.topic], partitions: args.partitions, replicas: 1 })
  await admin.close()
  emit({ created: args.topic })
}

// Errors come in bundles, and the one of the server is somewhere in them.
function nameOf (error) {
  const ofServer = ({ apiId, errors }) => apiId ?? errors?.map(ofServer).find(name => name)
  return ofServer(error) ?? error.code ?? error.name
}

async function produce (args) {
  if (!compressionsAlgorithms[args.codec].available) {
    unsupported(`@platformatic/kafka has no ${args.codec} in this version of Node.js`)
  }
  const producer = new Producer({ ...base(args), compression: args.codec })
  const metadata = await producer.metadata({ topics: [args.topic] })
  const count = metadata.topics.get(args.topic).partitionsCount
  for (const chunk of chunks(await records()).flatMap(apart)) {
    const messages = chunk.map(({ k, v, h, t }) => ({
      topic: args.topic,
      key: toBytes(k) ?? undefined,
      value: toBytes(v) ?? undefined,
      headers: new Map(h.map(([name, value]) => [Buffer.from(name), toBytes(value)])),
      ...(t != null && { timestamp: BigInt(t) })
    }))
    try {
      const { offsets } = await producer.send({ messages })
      const next = new Map(offsets.map(({ partition, offset }) => [partition, Number(offset)]))
      for (const { key } of messages) {
        const p = key === undefined ? offsets[0].partition : defaultPartitioner(undefined, key) % count
        const o = next.get(p)
        next.set(p, o + 1)
        emit({ p, o, e: null })
      }
    } catch (error) {
      messages.forEach(() => emit({ p: -1, o: -1, e: nameOf(error) }))
    }
  }
  await producer.close()
}

// The library reports where a partition's records begin, and not which partition it chose: without a
// key it takes them in turn, so that such a record goes alone.
function apart (chunk) {
  const parts = []
  for (const record of chunk) {
    const last = parts.at(-1)
    if (last && last[0].k !== null && record.k !== null) {
      last.push(record)
    } else {
      parts.push([record])
    }
  }
  return parts
}

const toRecord = ({ partition, offset, timestamp, key, value, headerEntries }) => ({
  partition,
  offset: Number(offset),
  timestamp: Number(timestamp),
  key,
  value,
  headers: headerEntries
})

async function consume (args) {
  const { topic, at } = args
  // The library knows no partitions assigned by hand: a group of its own gets them all.
  const consumer = new Consumer({ ...base(args), groupId: `by-hand-${randomUUID()}`, autocommit: false })
  const offsetsAt = async timestamp => (await consumer.listOffsets({ topics: [topic], timestamp })).get(topic)
  const ends = await offsetsAt(ListOffsetTimestamps.LATEST)
  const found = await offsetsAt(at === null ? ListOffsetTimestamps.EARLIEST : BigInt(at))
  const starts = found.map((offset, partition) => offset < 0n ? ends[partition] : offset)
  const open = new Set(ends.keys().filter(partition => starts[partition] < ends[partition]))
  if (open.size > 0) {
    const offsets = starts.map((offset, partition) => ({ topic, partition, offset }))
    const from = at === null ? { mode: EARLIEST } : { mode: MANUAL, offsets }
    for await (const message of await consumer.consume({ topics: [topic], ...from })) {
      const end = ends[message.partition]
      if (message.offset < end) {
        emitRecord(toRecord(message))
      }
      if (message.offset >= end - 1n && open.delete(message.partition) && open.size === 0) {
        break
      }
    }
  }
  await consumer.close(true)
}

// What a member asks of the library.
class Client {
  constructor (args) {
    const session = {
      sessionTimeout: args.sessionMs,
      heartbeatInterval: Math.floor(args.sessionMs / 3)
    }
    this.topic = args.topic
    this.member = new Member(this)
    this.isJoining = false
    this.heldBack = []
    this.consumer = new Consumer({
      ...base(args),
      groupId: args.group,
      autocommit: false,
      ...(args.instance && { groupInstanceId: args.instance }),
      ...(args.sessionMs && session)
    })
    // The library does not wait for this, but it sends what comes of it before it joins again.
    this.consumer.on('consumer:group:rebalance', () => {
      if (!this.isJoining) {
        this.isJoining = true
        this.next = new Map([...this.member.handedOut].map(([partition, { next }]) => [partition, next]))
        this.member.revoked()
      }
    })
    this.consumer.on('consumer:group:join', ({ assignments }) => this.joined(assignments))
    this.next = new Map()
  }

  async start () {
    this.stream = await this.consumer.consume({
      topics: [this.topic],
      mode: COMMITTED,
      fallbackMode: MessagesStreamFallbackModes.EARLIEST
    })
    this.stream.on('error', error => fail(error?.stack ?? error))
    this.stream.on('data', message => this.take(message))
  }

  joined (assignments) {
    this.isJoining = false
    const held = assignments.find(({ topic }) => topic === this.topic)?.partitions ?? []
    this.next = new Map([...this.next].filter(([partition]) => held.includes(partition)))
    this.member.assigned(held)
    this.heldBack.splice(0).forEach(message => this.take(message))
  }

  // The stream goes on while the group rebalances, and begins at the committed offsets when it has:
  // what comes meanwhile waits until it is known whose it is, and what comes again is left out.
  take (message) {
    if (this.isJoining) {
      this.heldBack.push(message)
      return
    }
    const record = toRecord(message)
    const { partition, offset } = record
    if (this.member.takes(partition) && offset >= (this.next.get(partition) ?? 0)) {
      this.next.set(partition, offset + 1)
      this.member.record(record, message.leaderEpoch)
    }
  }

  commit (offsets) {
    return this.consumer.commit({
      offsets: [...offsets].map(([partition, { next, epoch }]) => (
        { topic: this.topic, partition, offset: BigInt(next), leaderEpoch: epoch }
      ))
    })
  }

  pause () {
    this.stream.pause()
  }

  resume () {
    this.stream.resume()
  }

  // The library cannot seek; this is where its stream looks before it fetches.
  seek (partition, offset) {
    this.next.delete(partition)
    this.stream.offsetsToFetch.set(`${this.topic}:${partition}`, BigInt(offset))
  }

  close () {
    return this.consumer.close(true)
  }
}

async function member (args) {
  const client = new Client(args)
  await client.start()
  await client.member.run()
}

await main({ create, produce, consume, member })
