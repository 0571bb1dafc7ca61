// The screens against a server that is made up: what a real one shows only after hours, or with ten thousand
// topics.
import { QUICK_MS, accessible, assert, close, heading, launch, mock, noFaults, open, path, step, visit, worthAxe } from './support.mjs'

const browser = await launch()
const base = await mock()
const page = await open(browser, base)

const HERE = [
  ['/groups', 'fraud-check'],
  ['/groups/analytics', 'Lag in time'],
  ['/no/such/screen', 'No screen has the address'],
]

const REAL = [
  ['/', 'Groups that are behind'],
  ['/topics', 'payments'],
  ['/topics/orders', 'the newest first'],
  ['/topics/orders/publish', 'Appends 1 event'],
  ['/topics/orders/partitions', 'Oldest'],
  ['/topics/orders/groups', 'analytics'],
  ['/topics/orders/config', 'retention.ms'],
  ['/e/orders/1/301000', 'CloudEvent'],
  ['/settings', 'Limits'],
  ['/demo', 'A poison parks one customer'],
  ['/topics/gone', 'There is no such topic'],
]

for (const [address, text] of worthAxe(HERE, REAL)) {
  await step(`axe is content with ${address} in light and dark`, async () => {
    await visit(page, address, text)
    await accessible(page, address)
  })
}

await step('an opened event and the help are accessible, too', async () => {
  await visit(page, '/topics/orders', 'the newest first')
  for (const key of ['j', 'j', 'Enter']) await page.keyboard.press(key)
  await page.getByRole('button', { name: 'Close' }).waitFor()
  await accessible(page, 'an open event')
  await page.keyboard.press('?')
  await page.getByRole('dialog').waitFor()
  await accessible(page, 'the help')
  await page.keyboard.press('Escape')
  await page.keyboard.press('Escape')
  assert.equal(await page.getByRole('button', { name: 'Close' }).count(), 0)
})

await step('what is broken in the demo is repaired there, and its list says what has happened', async () => {
  await visit(page, '/', 'Groups that are behind')
  await page.getByRole('link', { name: 'Demo', exact: true }).click()
  await page.getByText('1 of 8 seen').waitFor()
  assert.ok(await page.getByRole('button', { name: 'Send them back' }).isDisabled())
  const carrier = 'The carrier'
  await page.getByRole('button', { name: `Break: ${carrier}` }).focus()
  await page.keyboard.press('Enter')
  await page.getByText('3 of 8 seen').waitFor()
  await accessible(page, 'a demo in which something is broken')
  await page.getByRole('button', { name: `Repair: ${carrier}` }).click()
  await page.getByRole('button', { name: `Break: ${carrier}` }).waitFor()
  await page.getByRole('button', { name: 'Send 1 back' }).click()
  await page.getByText('4 of 8 seen').waitFor()
})

await step('what is unknown is called so, and is not 0', async () => {
  await visit(page, '/groups?filter=fraud', 'fraud-check')
  const cells = await page.getByRole('row', { name: /fraud-check/ }).getByRole('gridcell').allTextContents()
  assert.deepEqual(cells.slice(4).map((cell) => cell.trim()), ['unknown', 'unknown'])
  await visit(page, '/groups?filter=mailer', 'mailer')
  const known = await page.getByRole('row', { name: /mailer/ }).getByRole('gridcell').allTextContents()
  assert.deepEqual(known.slice(4).map((cell) => cell.trim()), ['0', '0 s'])
})

await step('a chart is a table for who wants one, with its unknown points', async () => {
  await visit(page, '/groups/analytics', 'Lag in time')
  await page.locator('.uplot').waitFor()
  await page.getByRole('button', { name: 'Show as a table' }).click()
  const table = page.getByRole('group', { name: 'Lag in time' })
  assert.equal(await table.getByRole('row').count(), 182)
  assert.ok((await table.getByText('unknown').count()) > 5)
})

await step('a search shows how far it is, and keeps what it found when it is cancelled', async () => {
  await visit(page, '/topics/orders', 'the newest first')
  await page.keyboard.press('/')
  await page.keyboard.type('ORD')
  await page.keyboard.press('Enter')
  await page.getByText(/scanned .+ of 1\.2 M/).waitFor()
  await page.getByRole('row').nth(3).waitFor()
  await page.getByRole('button', { name: /Cancel/ }).click()
  await page.getByText('Cancelled', { exact: true }).waitFor()
  assert.ok((await page.getByRole('row').count()) > 3)
  assert.equal(await path(page), '/topics/orders?contains=ORD')
})

await step('a live list stands still under the pointer, and counts what is new', async () => {
  await visit(page, '/topics/orders/live', 'Live')
  await page.getByRole('row').nth(5).waitFor()
  await page.getByRole('grid').hover()
  const first = () => page.getByRole('row').nth(1).textContent()
  const before = await first()
  await page.getByText(/\d+ new ↑/).waitFor()
  assert.equal(await first(), before)
  await page.mouse.move(5, 5)
  await page.waitForFunction((text) => document.querySelectorAll('[role=row]')[1]?.textContent !== text, before)
  await page.keyboard.press('p')
  await page.getByText('Paused').waitFor()
  await page.getByText(/\d+ new ↑/).waitFor()
  await page.keyboard.press('p')
  await page.getByText('Paused').waitFor({ state: 'detached' })
})

await step('the theme can be chosen, and is kept', async () => {
  await page.emulateMedia({ colorScheme: 'light' })
  await visit(page, '/topics', 'payments')
  const background = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor)
  const light = await background()
  await page.keyboard.press('t')
  const dark = await background()
  assert.notEqual(dark, light)
  await page.reload()
  assert.equal(await background(), dark)
  await page.getByLabel('Theme').selectOption('system')
  assert.equal(await background(), light)
})

await step('times are written as somebody wants them', async () => {
  await visit(page, '/topics/orders', 'the newest first')
  const time = () => page.locator('time').first().textContent()
  assert.match(await time(), /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}$/)
  await page.getByLabel('Times').selectOption('relative')
  assert.match(await time(), /ago|now/)
  await page.getByLabel('Times').selectOption('utc')
})

await step('nothing in all that was an error', () => noFaults(page))

const many = await open(browser, await mock({ MOCK_TOPICS: '10000', MOCK_READ_ONLY: '1' }))

await step('ten thousand topics are a list like any other', async () => {
  await visit(many, '/topics')
  await many.getByText('10,008 of 10,009').waitFor()
  const rows = await many.getByRole('row').count()
  assert.ok(rows < 100, `${rows} rows are in the page`)
  assert.equal(await many.getByRole('grid').getAttribute('aria-rowcount'), '10009')
  await many.getByRole('grid').focus()
  await many.keyboard.press('End')
  await many.getByRole('link', { name: 'shipments' }).waitFor()
  const begun = performance.now()
  await many.keyboard.press('/')
  await many.keyboard.type('topic-09999')
  await many.getByRole('link', { name: 'load.topic-09999' }).waitFor()
  assert.ok(performance.now() - begun < QUICK_MS, 'filtering is quick')
  assert.equal(await many.getByRole('row').count(), 2)
  await many.keyboard.press('Enter')
  await many.keyboard.press('j')
  await many.keyboard.press('Enter')
  assert.equal(await heading(many), 'load.topic-09999')
})

await step('a server that is read-only says so before anything is typed', async () => {
  await visit(many, '/topics/orders/publish', 'read-only')
  assert.ok(await many.getByRole('button', { name: 'Publish to orders' }).isDisabled())
  noFaults(many)
})

const empty = await open(browser, await mock({ MOCK_EMPTY: '1' }))

await step('what is empty says what to do', async () => {
  for (const [address, text] of [['/', 'courant topic create orders'], ['/topics', 'courant pub orders'], ['/groups', '--group billing'], ['/demo', 'No demo runs']]) {
    await visit(empty, address, text)
    await accessible(empty, `empty ${address}`)
  }
  noFaults(empty)
})

await browser.close()
close()
