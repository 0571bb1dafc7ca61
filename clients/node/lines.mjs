// The lines that the acceptance clients speak; clients/python/lines.py says what they mean.

import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'

export const DEADLINE_MS = 180_000

const toHex = data => data == null ? null : Buffer.from(data).toString('hex')

export const toBytes = text => text == null ? null : Buffer.from(text, 'hex')

export function emit (line) {
  process.stdout.write(JSON.stringify(line) + '\n')
}

// A record as a client was handed it: headers are [name, value] pairs.
export function emitRecord ({ partition, offset, timestamp, key, value, headers }) {
  const h = headers.map(([name, value]) => [String(name), toHex(value)])
  emit({ p: partition, o: offset, t: timestamp, k: toHex(key), v: toHex(value), h })
}

// Says that the library has no means for this, and ends.
export function unsupported (reason) {
  process.stderr.write(`UNSUPPORTED: ${reason}\n`)
  process.exit(3)
}

export async function records () {
  const records = []
  for await (const line of createInterface({ input: process.stdin })) {
    records.push(JSON.parse(line))
  }
  return records
}

// Groups that go in one request: a batch may not be larger than what a topic takes by default.
export function chunks (records) {
  const MOST_RECORDS = 500
  const MOST_BYTES = 900_000
  const chunks = []
  let bytes = 0
  for (const record of records) {
    const size = (record.k?.length ?? 0) / 2 + (record.v?.length ?? 0) / 2
    const last = chunks.at(-1)
    if (last && last.length < MOST_RECORDS && bytes + size <= MOST_BYTES) {
      last.push(record)
      bytes += size
    } else {
      chunks.push([record])
      bytes = size
    }
  }
  return chunks
}

// Runs the command that the program was started with, and ends the program.
export async function main (commands) {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
      codec: { type: 'string' },
      'max-bytes': { type: 'string' },
      at: { type: 'string' },
      instance: { type: 'string' },
      'session-ms': { type: 'string' }
    }
  })
  const [command, server, topic, last] = positionals
  const deadline = setTimeout(() => fail(`not done within ${DEADLINE_MS} ms`), DEADLINE_MS)
  try {
    await commands[command]({
      server,
      topic,
      partitions: Number(last),
      group: last,
      codec: values.codec ?? 'none',
      at: values.at === undefined ? null : Number(values.at),
      instance: values.instance,
      sessionMs: Number(values['session-ms'] ?? 0)
    })
  } catch (error) {
    fail(error?.stack ?? error)
  }
  clearTimeout(deadline)
  // What was written to a pipe is not always in it yet.
  process.stdout.write('', () => process.exit(0))
}

export function fail (reason) {
  process.stderr.write(`${reason}\n`)
  process.exit(1)
}

// What a member knows of itself, whatever library it is made of.
//
// `client` commits a map of partition and { next, epoch }, pauses, resumes, seeks, and closes.
export class Member {
  constructor (client) {
    this.client = client
    this.held = new Set()
    this.handedOut = new Map()
    this.isPaused = false
  }

  assigned (partitions) {
    this.held = new Set(partitions)
    emit({ assigned: [...this.held] })
  }

  // Commits what was handed out, then says what is given up: all, for these libraries know only
  // rebalances in which everyone gives up everything.
  async revoked () {
    const [revoked, offsets] = [[...this.held], this.handedOut]
    this.held = new Set()
    this.handedOut = new Map()
    try {
      await this.commitOffsets(offsets)
    } catch (error) {
      // The group has gone on without this member: what it was handed, others will be.
      process.stderr.write(`not committed: ${error?.message}\n`)
    }
    emit({ revoked })
  }

  // Whether a record of this partition may be handed out now.
  takes (partition) {
    return this.held.has(partition) && !this.isPaused
  }

  record (record, epoch = -1) {
    this.handedOut.set(record.partition, { next: record.offset + 1, epoch })
    emitRecord(record)
  }

  async commitOffsets (offsets) {
    if (offsets.size > 0) {
      await this.client.commit(offsets)
    }
    emit({ committed: Object.fromEntries([...offsets].map(([partition, { next }]) => [partition, next])) })
  }

  pause () {
    this.isPaused = true
    this.client.pause([...this.held])
  }

  // Does what the test says; true when that was to stop.
  async obey ([command, ...rest]) {
    switch (command) {
      case 'commit':
        await this.commitOffsets(new Map(this.handedOut))
        return false
      case 'pause':
        this.pause()
        emit({ paused: [...this.held] })
        return false
      case 'resume':
        this.isPaused = false
        this.client.resume([...this.held])
        emit({ resumed: [...this.held] })
        return false
      case 'seek': {
        const [partition, offset] = rest.map(Number)
        this.handedOut.delete(partition)
        this.client.seek(partition, offset)
        emit({ sought: [partition, offset] })
        return false
      }
      case 'die':
        return process.exit(0)
      case 'stop':
        // Nothing may be handed out behind the last commit.
        this.pause()
        await this.commitOffsets(new Map(this.handedOut))
        return true
      default:
        return fail(`no such command: ${command}`)
    }
  }

  async run () {
    for await (const line of createInterface({ input: process.stdin })) {
      if (await this.obey(line.split(' '))) {
        return this.stop()
      }
    }
    await this.obey(['stop'])
    return this.stop()
  }

  async stop () {
    this.handedOut.clear()
    await this.client.close()
    emit({ stopped: true })
  }
}
