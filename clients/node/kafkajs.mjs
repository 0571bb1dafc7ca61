// Drives a server with kafkajs; clients/python/lines.py says what is spoken.

import { randomUUID } from 'node:crypto'
import { promisify } from 'node:util'
import zlib from 'node:zlib'

import { lz4Compress, lz4Decompress } from '@platformatic/wasm-utils'
import kafkajs from 'kafkajs'
import snappy from 'kafkajs-snappy'

import { Member, chunks, emit, emitRecord, main, records, toBytes, unsupported } from './lines.mjs'

const { CompressionCodecs, CompressionTypes, Kafka, Partitioners, logLevel } = kafkajs

const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD
}

// The library brings gzip; for the others it is given a codec, as its users do.
CompressionCodecs[CompressionTypes.Snappy] = snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async encoder => lz4Compress(encoder.buffer),
  decompress: async buffer => lz4Decompress(buffer)
})
if (zlib.zstdCompress) {
  const [compress, decompress] = [promisify(zlib.zstdCompress), promisify(zlib.zstdDecompress)]
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({
    compress: encoder => compress(encoder.buffer),
    decompress: buffer => decompress(buffer)
  })
}

function kafka ({ server }) {
  return new Kafka({
    brokers: [server],
    logLevel: logLevel.ERROR,
    // Standard output belongs to the lines.
    logCreator: () => ({ log }) => process.stderr.write(JSON.stringify(log) + '\n')
  })
}

async function withAdmin (args, work) {
  const admin = kafka(args).admin()
  await admin.connect()
  try {
    return await work(admin)
  } finally {
    await admin.disconnect()
  }
}

async function create (args) {
  const topics = [{ topic: args.topic, numPartitions: args.partitions, replicationFactor: 1 }]
  if (!await withAdmin(args, admin => admin.createTopics({ topics }))) {
    throw new Error(`${args.topic} exists`)
  }
  emit({ created: args.topic })
}

// The library wants headers as an object, and those that share a name as an array.
function toHeaders (pairs) {
  const headers = {}
  for (const [name, value] of pairs) {
    const bytes = toBytes(value)
    headers[name] = name in headers ? [headers[name], bytes].flat() : bytes
  }
  return headers
}

const fromHeaders = headers =>
  Object.entries(headers ?? {}).flatMap(([name, value]) => [value].flat().map(one => [name, one]))

async function produce (args) {
  if (args.codec === 'zstd' && !zlib.zstdCompress) {
    unsupported('kafkajs has no zstd of its own, and this Node.js has none either')
  }
  // The library reports where a partition's records begin, and not which partition it chose.
  const chosen = new Map()
  const createPartitioner = () => {
    const choose = Partitioners.DefaultPartitioner()
    return choice => {
      const partition = choose(choice)
      chosen.set(choice.message, partition)
      return partition
    }
  }
  const producer = kafka(args).producer({ createPartitioner })
  await producer.connect()
  for (const chunk of chunks(await records())) {
    const messages = chunk.map(({ k, v, h, t }) => ({
      key: toBytes(k),
      value: toBytes(v),
      headers: toHeaders(h),
      ...(t != null && { timestamp: String(t) })
    }))
    try {
      const sent = await producer.send({ topic: args.topic, compression: CODECS[args.codec], messages })
      const next = new Map(sent.map(({ partition, baseOffset }) => [partition, Number(baseOffset)]))
      for (const message of messages) {
        const p = chosen.get(message)
        const o = next.get(p)
        next.set(p, o + 1)
        emit({ p, o, e: null })
      }
    } catch (error) {
      const e = error.type ?? error.cause?.type ?? error.name
      messages.forEach(() => emit({ p: -1, o: -1, e }))
    }
    chosen.clear()
  }
  await producer.disconnect()
}

const toRecord = (partition, { offset, timestamp, key, value, headers }) => ({
  partition,
  offset: Number(offset),
  timestamp: Number(timestamp),
  key,
  value,
  headers: fromHeaders(headers)
})

async function consume (args) {
  const { topic, at } = args
  const [bounds, found] = await withAdmin(args, async admin => [
    await admin.fetchTopicOffsets(topic),
    at === null ? [] : await admin.fetchTopicOffsetsByTimestamp(topic, at)
  ])
  const starts = found.length > 0 ? found : bounds.map(({ partition, low }) => ({ partition, offset: low }))
  const ends = new Map(bounds.map(({ partition, high }) => [partition, Number(high)]))
  const open = new Set(starts.filter(({ partition, offset }) => Number(offset) < ends.get(partition))
    .map(({ partition }) => partition))
  if (open.size === 0) {
    return
  }
  // The library knows no partitions assigned by hand: a group of its own gets them all.
  const consumer = kafka(args).consumer({ groupId: `by-hand-${randomUUID()}` })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await new Promise((resolve, reject) => {
    const eachMessage = async ({ partition, message }) => {
      const [record, end] = [toRecord(partition, message), ends.get(partition)]
      if (record.offset < end) {
        emitRecord(record)
      }
      if (record.offset >= end - 1 && open.delete(partition) && open.size === 0) {
        resolve()
      }
    }
    consumer.run({ autoCommit: false, eachMessage })
      .then(() => starts.forEach(({ partition, offset }) => consumer.seek({ topic, partition, offset })))
      .catch(reject)
  })
  await consumer.disconnect()
}

// What a member asks of the library.
class Client {
  constructor (args) {
    if (args.instance) {
      unsupported('kafkajs has no static members')
    }
    const session = { sessionTimeout: args.sessionMs, heartbeatInterval: Math.floor(args.sessionMs / 3) }
    this.topic = args.topic
    this.member = new Member(this)
    this.consumer = kafka(args).consumer({ groupId: args.group, ...(args.sessionMs && session) })
    const { GROUP_JOIN, REBALANCING } = this.consumer.events
    this.consumer.on(GROUP_JOIN, ({ payload }) => {
      this.member.assigned(payload.memberAssignment[this.topic] ?? [])
    })
    // The library does not wait for this, but it sends what comes of it before it joins again.
    this.consumer.on(REBALANCING, () => this.member.revoked())
  }

  async start () {
    await this.consumer.connect()
    await this.consumer.subscribe({ topic: this.topic, fromBeginning: true })
    await this.consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      eachBatch: async ({ batch, resolveOffset, heartbeat, isRunning, isStale }) => {
        for (const message of batch.messages) {
          if (!isRunning() || isStale() || !this.member.takes(batch.partition)) {
            break
          }
          this.member.record(toRecord(batch.partition, message))
          resolveOffset(message.offset)
          await heartbeat()
        }
      }
    })
  }

  commit (offsets) {
    return this.consumer.commitOffsets([...offsets].map(([partition, { next }]) => (
      { topic: this.topic, partition, offset: String(next) }
    )))
  }

  pause (partitions) {
    this.consumer.pause([{ topic: this.topic, partitions }])
  }

  resume (partitions) {
    this.consumer.resume([{ topic: this.topic, partitions }])
  }

  seek (partition, offset) {
    this.consumer.seek({ topic: this.topic, partition, offset: String(offset) })
  }

  close () {
    return this.consumer.disconnect()
  }
}

async function member (args) {
  const client = new Client(args)
  await client.start()
  await client.member.run()
}

await main({ create, produce, consume, member })
