// The pictures of the README, of a `courant demo --seed 1 --script off`: `node e2e/pictures.mjs HOST:PORT`. It turns
// the switches itself, and takes some six minutes, because the server notes a lag once a minute.
import { mkdir, writeFile } from 'node:fs/promises'
import { withPalette } from './png.mjs'
import { assert, launch, noFaults, open, within } from './support.mjs'

const MINUTE_MS = 60_000
within(12 * MINUTE_MS)
/** All of them together. */
const BYTES_MAX = 700_000
/** Points of the rising lag, one a minute, and of what comes after it. */
const RISING = 3
const AFTER = 2

const base = `http://${process.argv[2]}`
const folder = new URL('../../docs/pictures/', import.meta.url)

async function get(path) {
  const response = await fetch(`${base}/api/v1${path}`)
  assert.ok(response.ok, `${path}: ${response.status}`)
  return response.json()
}

async function post(path, json) {
  const response = await fetch(`${base}/api/v1${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(json ?? {}),
  })
  assert.ok(response.ok, `${path}: ${response.status} ${await response.text()}`)
}

const turn = (id, on) => post(`/demo/switches/${id}`, { on })

/** Asks once a second until the answer is one to go on with. */
async function until(what, path, isEnough) {
  console.log(`waits until ${what}`)
  for (;;) {
    const answer = await get(path)
    if (isEnough(answer)) return answer
    await new Promise((resolve) => setTimeout(resolve, 1000))
  }
}

/** How often a lag was noted since. */
const points = (history, since) => history.points.filter((point) => point.at_ms > since).length

const browser = await launch()
const page = await open(browser, base, { viewport: { width: 1280, height: 800 } })
let bytes = 0

/** One screen, in light and in dark. */
async function picture(name, path, shows) {
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
    await page.goto(path)
    await shows()
    await page.evaluate(() => document.fonts.ready)
    const png = withPalette(await page.screenshot())
    await writeFile(new URL(`${name}-${colorScheme}.png`, folder), png)
    bytes += png.length
    console.log(`${name}-${colorScheme}.png: ${png.length} bytes`)
  }
}

await mkdir(folder, { recursive: true })
const { script, seed } = await get('/demo')
assert.ok(!script && seed === 1, 'the demo was started without --seed 1 --script off')

await until('orders flow', '/demo', ({ figures }) => figures.shipped > 50)
const broken = Date.now()
await turn('analytics', true)
await turn('carrier', true)
await until('a customer waits', '/demo', ({ figures }) => figures.parked >= 5)
const [failure] = (await until('the failure is known', '/dead-letters', ({ groups }) => groups.length > 0)).groups
await picture('demo', '/demo', () => page.getByText('Send 1 back').waitFor())
await picture('dead-letters', `/dlq/${failure.service}/${failure.group}?do=redrive`, async () => {
  await page.getByRole('button', { name: 'Redrive 1 letter' }).waitFor()
  await page.getByRole('link', { name: /^shop\.stock\/\d+ @ \d+$/ }).waitFor()
})

const [dead] = (await until('its trace is known', '/traces?failed=true', ({ traces }) => traces.length > 0)).traces
await turn('carrier', false)
await post('/demo/redrive')
await until('it is shipped', `/traces/${dead.id}`, ({ nodes }) => nodes.some((node) => node.type === 'shop.order-shipped'))
await picture('order', `/trace/${dead.id}?view=sequence`, () => page.getByRole('region', { name: 'Sequence' }).getByText('shop.order-shipped').waitFor())

const history = '/groups/analytics/history?topic=shop.orders'
await until(`the lag was noted ${RISING} times`, history, (history) => points(history, broken) >= RISING)
const repaired = Date.now()
await turn('analytics', false)
await until(`it was noted ${AFTER} times more`, history, (history) => points(history, repaired) >= AFTER)
await picture('lag', '/groups/analytics?topic=shop.orders', () => page.locator('canvas').waitFor())

noFaults(page)
assert.ok(bytes <= BYTES_MAX, `the pictures have ${bytes} bytes together, more than ${BYTES_MAX}`)
console.log(`${bytes} bytes together`)
await browser.close()
process.exit(0)
