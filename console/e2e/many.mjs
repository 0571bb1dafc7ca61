// What is much, in a real server: `node many.mjs HTTP_ADDRESS`. The server has the topics `load.topic-00000` to
// `load.topic-09999`, an event in the last one, a group `everything` that has committed in each of them, and an
// empty topic `orders`.
import { QUICK_MS, accessible, assert, close, heading, launch, noFaults, open, path, step, visit } from './support.mjs'

const EVENTS = 500

const base = `http://${process.argv[2]}`
const browser = await launch()
const page = await open(browser, base)

/** Events of one order by the CloudEvents HTTP binding: each after the first has one of those before as its cause. */
async function happen(count) {
  const events = Array.from({ length: count }, (_, n) => ({
    specversion: '1.0',
    id: `step-${n}`,
    source: ['storefront', 'payments', 'inventory', 'shipping'][n % 4],
    type: `orders.step-${n % 7}`,
    partitionkey: 'ORDER-500',
    correlationid: 'ORDER-500',
    ...(n > 0 ? { causationid: `step-${Math.floor((n - 1) / 3)}` } : {}),
    data: { n },
  }))
  const answer = await fetch(`${base}/api/v1/topics/orders/events`, {
    method: 'POST',
    headers: { 'content-type': 'application/cloudevents-batch+json' },
    body: JSON.stringify(events),
  })
  assert.equal(answer.status, 200, await answer.clone().text())
  assert.equal((await answer.json()).events.length, count)
}

// Published first: the index follows while other things are looked at.
await happen(EVENTS)

await step('ten thousand topics are a list of which only the rows in sight are in the page', async () => {
  await visit(page, '/topics', 'load.topic-00000')
  await page.getByRole('grid').and(page.locator('[aria-rowcount="10002"]')).waitFor()
  const rows = await page.getByRole('row').count()
  assert.ok(rows < 100, `${rows} rows are in the page`)
  await accessible(page, 'ten thousand topics')
  await page.getByRole('grid').focus()
  await page.keyboard.press('End')
  await page.getByRole('link', { name: 'orders', exact: true }).waitFor()
})

await step('one of ten thousand topics is found, opened and read by the keyboard alone', async () => {
  const begun = performance.now()
  await page.keyboard.press('/')
  await page.keyboard.type('topic-09999')
  await page.getByRole('link', { name: 'load.topic-09999' }).waitFor()
  assert.ok(performance.now() - begun < QUICK_MS, 'filtering is quick')
  assert.equal(await page.getByRole('row').count(), 2)
  assert.equal(await path(page), '/topics?filter=topic-09999')
  for (const key of ['Enter', 'j', 'Enter']) await page.keyboard.press(key)
  await page.waitForFunction(() => location.pathname === '/topics/load.topic-09999')
  assert.equal(await heading(page), 'load.topic-09999')
  await page.getByText('the newest first').waitFor()
  await page.getByRole('row').nth(1).waitFor()
  await page.keyboard.press('5')
  await page.getByRole('link', { name: 'everything' }).waitFor()
})

await step('ten thousand topics are sorted here, and the one with an event comes first', async () => {
  await visit(page, '/topics?sort=-events&filter=load', 'load.topic-09999')
  const first = page.getByRole('row').nth(1)
  await first.getByRole('link', { name: 'load.topic-09999' }).waitFor()
  await page.getByRole('columnheader', { name: /Topic/ }).getByRole('button').click()
  await first.getByRole('link', { name: 'load.topic-00000' }).waitFor()
})

await step('the overview of more than it adds up says so, and does not say 0', async () => {
  await visit(page, '/', 'Ready')
  const tile = page.locator('.tile').filter({ hasText: 'Events a second' })
  await tile.getByText('unknown').waitFor()
  await accessible(page, 'the overview of ten thousand topics')
})

await step('a group that reads ten thousand topics is listed with its lag, and is looked into', async () => {
  await visit(page, '/groups?filter=every', 'everything')
  const cells = page.getByRole('row', { name: /everything/ }).getByRole('gridcell')
  assert.equal((await cells.nth(3).textContent()).trim(), '10,000')
  assert.equal((await cells.nth(4).textContent()).trim(), '1')
  await page.getByRole('link', { name: 'everything' }).click()
  await page.getByText('Lag in time').first().waitFor()
  await page.getByRole('grid').getByText('load.topic-00000').first().waitFor()
  const rows = await page.getByRole('row').count()
  assert.ok(rows < 100, `${rows} rows are in the page`)
  await accessible(page, 'a group of ten thousand topics')
})

await step('a trace of five hundred events is drawn whole, and walked through by the keyboard', async () => {
  await visit(page, '/traces', 'ORDER-500')
  await page.waitForFunction(async () => (await (await fetch('/api/v1/traces/ORDER-500')).json()).events === 500)
  await visit(page, '/trace/ORDER-500?at=0')
  await page.locator('#event-499').waitFor()
  assert.equal(await page.locator('[id^=event-]').count(), EVENTS)
  assert.equal(await page.getByRole('button', { name: /^Show .* more$/ }).count(), 0)
  await accessible(page, 'a tree of five hundred events')
  await page.keyboard.press('ArrowRight')
  await page.waitForFunction(() => new URLSearchParams(location.search).get('at') !== '0')
  const effect = await page.evaluate(() => document.activeElement?.id)
  assert.match(effect, /^event-\d+$/)
  await page.keyboard.press('ArrowLeft')
  await page.waitForFunction(() => document.activeElement?.id === 'event-0')
})

await step('its sequence and its table have the same five hundred, and each leads to its event', async () => {
  await page.keyboard.press('2')
  await page.getByRole('region', { name: 'Sequence' }).getByText('payments', { exact: true }).first().waitFor()
  assert.equal(await page.locator('[id^=event-]').count(), EVENTS)
  await page.keyboard.press('3')
  await page.getByRole('grid').and(page.locator(`[aria-rowcount="${EVENTS + 1}"]`)).waitFor()
  for (const key of ['j', 'Enter']) await page.keyboard.press(key)
  await page.waitForFunction(() => location.pathname.startsWith('/e/orders/'))
  await page.getByRole('row', { name: /^correlationid ORDER-500/ }).waitFor()
})

await step('nothing with so much was an error', () => noFaults(page))

await browser.close()
close()
