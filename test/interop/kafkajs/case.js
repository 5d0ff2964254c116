// kafkajs: admin, producer with gzip, a group of two consumers that share the work, seek, committed offsets.
const { Kafka, CompressionTypes, logLevel } = require('kafkajs')

const kafka = new Kafka({ brokers: [process.env.BOOTSTRAP], clientId: 'kafkajs-case', logLevel: logLevel.ERROR })
const topic = 'kafkajs'
const total = 3000

async function main() {
  const admin = kafka.admin()
  await admin.connect()
  await admin.createTopics({ topics: [{ topic, numPartitions: 3 }] })

  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  for (let from = 0; from < total; from += 300) {
    const messages = Array.from({ length: 300 }, (_, i) => ({ key: `k${from + i}`, value: `v${from + i}`, headers: { n: `${from + i}` } }))
    await producer.send({ topic, messages, compression: from % 600 ? CompressionTypes.GZIP : CompressionTypes.None })
  }
  await producer.disconnect()

  const seen = new Map()
  const members = [kafka.consumer({ groupId: 'kafkajs-group' }), kafka.consumer({ groupId: 'kafkajs-group' })]
  const last = {}
  await new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`only ${seen.size} of ${total} records came`)), 60000).unref()
    members.forEach(async (consumer) => {
      await consumer.connect()
      await consumer.subscribe({ topic, fromBeginning: true })
      await consumer.run({
        eachMessage: async ({ partition, message }) => {
          if (message.value.toString() !== 'v' + message.headers.n.toString()) reject(new Error('key, value or header is wrong'))
          if (last[partition] !== undefined && Number(message.offset) > last[partition] + 1) reject(new Error(`a gap in partition ${partition}`))
          last[partition] = Math.max(last[partition] ?? -1, Number(message.offset))
          seen.set(message.key.toString(), true)
          if (seen.size === total) resolve()
        },
      })
    })
  })
  await Promise.all(members.map((c) => c.disconnect()))
  const committed = await admin.fetchOffsets({ groupId: 'kafkajs-group', topics: [topic] })
  const sum = committed[0].partitions.reduce((n, p) => n + Math.max(0, Number(p.offset)), 0)
  if (sum !== total) throw new Error(`committed offsets add up to ${sum}, not ${total}`)
  await admin.disconnect()
  console.log(`${total} records, a group of two, offsets committed`)
}

main().catch((e) => { console.error(e); process.exit(1) })
