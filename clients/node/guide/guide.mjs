// Places three orders, then bills them: guide.mjs [SERVER].

import kafkajs from 'kafkajs'

const TOPIC = 'orders.placed'
const ORDERS = ['espresso', 'flat white', 'filter']

const brokers = [process.argv[2] ?? '127.0.0.1:9092']
const kafka = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.ERROR })

async function place () {
  const producer = kafka.producer({ idempotent: true })
  await producer.connect()
  for (const order of ORDERS) {
    const [placed] = await producer.send({ topic: TOPIC, messages: [{ key: 'customer-1', value: order }] })
    // Acknowledged means that it is on disk.
    console.log(`placed at ${placed.partition}/${placed.baseOffset}`)
  }
  await producer.disconnect()
}

async function bill () {
  const consumer = kafka.consumer({ groupId: 'billing' })
  await consumer.connect()
  await consumer.subscribe({ topic: TOPIC, fromBeginning: true })
  let billed = 0
  await new Promise(resolve => {
    const eachMessage = async ({ partition, message }) => {
      if (billed === ORDERS.length) {
        return
      }
      console.log(`billed ${message.key}: ${message.value}`)
      // Only what has been dealt with is committed: a crash repeats, and skips nothing.
      const offset = String(BigInt(message.offset) + 1n)
      await consumer.commitOffsets([{ topic: TOPIC, partition, offset }])
      billed += 1
      if (billed === ORDERS.length) {
        resolve()
      }
    }
    consumer.run({ autoCommit: false, eachMessage })
  })
  await consumer.disconnect()
}

await place()
await bill()
