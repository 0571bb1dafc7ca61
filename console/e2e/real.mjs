// Every screen of a real server once, in light and in dark: `node real.mjs HTTP_ADDRESS` of a `courant demo` that
// is told to break nothing by itself. It also has a topic `orders-dlt` with a dead letter of Spring Kafka.
import { accessible, assert, close, launch, noFaults, open, path, step, visit } from './support.mjs'

const base = `http://${process.argv[2]}`
const browser = await launch()
const page = await open(browser, base)
// Looks at half of the screens, meanwhile.
const other = await open(browser, base)

/** What the API says. */
async function ask(path) {
  const answer = await fetch(`${base}/api/v1${path}`)
  assert.equal(answer.status, 200, await answer.clone().text())
  return answer.json()
}

async function turn(id, on) {
  const json = { 'content-type': 'application/json' }
  const answer = await fetch(`${base}/api/v1/demo/switches/${id}`, { method: 'POST', headers: json, body: JSON.stringify({ on }) })
  assert.equal(answer.status, 200, await answer.clone().text())
}

/** One screen after the other. */
async function each(page, screens) {
  for (const [address, text] of screens) {
    await step(`${address.replace(/[\w-]{36}/, 'ID')} shows what it should, in light and dark`, async () => {
      await visit(page, address, text)
      await accessible(page, address)
    })
  }
}

await turn('carrier', true)

let failure
let letter
let trace
await step('a failure of a real service is seen, and leads to its letter and to its trace', async () => {
  await visit(page, '/dlq', /UnknownCountry/)
  failure = (await ask('/dead-letters')).groups.find((one) => one.service === 'shipping')
  assert.equal(failure?.operable, true)
  await accessible(page, 'dead letters')
  await page.getByRole('link', { name: /UnknownCountry/ }).focus()
  await page.keyboard.press('Enter')
  await page.waitForFunction(() => /^\/dlq\/shipping\/\w+$/.test(location.pathname))
  assert.equal(await path(page), `/dlq/shipping/${failure.group}`)
  await page.getByRole('row').nth(1).getByRole('link').first().focus()
  await page.keyboard.press('Enter')
  await page.waitForFunction(() => location.pathname.startsWith('/dlq/shipping/letters/'))
  letter = await path(page)
  await page.getByText('What people have done').waitFor()
  await page.getByRole('link', { name: 'Trace', exact: true }).first().focus()
  await page.keyboard.press('Enter')
  await page.waitForFunction(() => location.pathname.startsWith('/trace/'))
  await page.getByText(/dead letter of shipping/).first().waitFor()
  trace = await page.evaluate(() => location.pathname)
})

const { records } = await ask('/topics/shop.orders/records?limit=1')
const { partition, offset } = records[0]

const screens = [
  ['/', 'Newest failures'],
  ['/topics', 'shop.orders'],
  ['/topics/shop.orders', 'the newest first'],
  ['/topics/shop.orders/live', 'Live'],
  ['/topics/shop.orders/publish', 'Appends 1 event'],
  ['/topics/shop.orders/partitions', 'Oldest'],
  ['/topics/shop.orders/groups', 'payments'],
  ['/topics/shop.orders/config', 'retention.ms'],
  [`/e/shop.orders/${partition}/${offset}`, 'CloudEvent'],
  ['/groups', 'analytics'],
  ['/groups/analytics', 'Lag in events'],
  [`/dlq/shipping/${failure.group}`, 'Parked behind'],
  [`/dlq/shipping/${failure.group}?do=discard`, /Gives \d+ letters? up/],
  [letter, 'What people have done'],
  [`${letter}?do=edit`, 'Nothing changes yet'],
  ['/foreign/orders-dlt', 'java.lang.IllegalStateException'],
  ['/traces', 'shop.order-placed'],
  [trace, /dead letter of shipping/],
  [`${trace}?view=sequence`, 'shipping'],
  [`${trace}?view=table`, 'Dead letter'],
  ['/demo', 'A poison parks one customer'],
  ['/settings', 'Limits'],
  ['/topics/gone', 'There is no such topic'],
]
const half = Math.floor(screens.length / 2)
await Promise.all([each(page, screens.slice(0, half)), each(other, screens.slice(half))])

await step('a redrive says before what it does, and after what has become of each letter', async () => {
  await turn('carrier', false)
  await visit(page, `/dlq/shipping/${failure.group}?do=redrive`, /Sends \d+ letters? back/)
  await accessible(page, 'what a redrive does')
  const button = page.getByRole('button', { name: /^Redrive \d+ letters?$/ })
  await button.focus()
  await page.keyboard.press('Enter')
  await page.waitForFunction(() => location.pathname.startsWith('/dlq/shipping/redrives/'))
  await page.getByRole('gridcell', { name: 'Redriven' }).first().waitFor()
  await page.getByText(/^\d+ letters?: \d+ handled$/).waitFor()
  await accessible(page, 'a redrive')
})

await step('no screen of a real server was an error', () => [page, other].forEach(noFaults))

await browser.close()
close()
