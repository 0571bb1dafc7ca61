// The console of a real server, as a person uses it: `node server.mjs HTTP_ADDRESS`. The server has a topic
// `orders` of 3 partitions, with an event of the key BIG and one of the key SCRIPT, 200 others and a group
// `billing`. On the line RESTART whoever started this ends the server, starts it again, and answers with its
// new address.
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { accessible, assert, close, heading, launch, noFaults, open, path, step, visit } from './support.mjs'

const [upstream] = process.argv.slice(2)
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

// The browser's way to the server, which can be cut: a server that goes away and comes back has one address.
let target = upstream
const sockets = new Set()
const proxy = createServer((socket) => {
  const at = target.lastIndexOf(':')
  const server = connect(Number(target.slice(at + 1)), target.slice(0, at))
  for (const one of [socket, server]) {
    sockets.add(one)
    one.on('close', () => sockets.delete(one))
    one.on('error', () => one.destroy())
  }
  socket.on('close', () => server.destroy())
  server.on('close', () => socket.destroy())
  socket.pipe(server)
  server.pipe(socket)
})
proxy.listen(0, '127.0.0.1')
await once(proxy, 'listening')
const { port } = proxy.address()
const base = `http://127.0.0.1:${port}`

async function cut() {
  proxy.close()
  sockets.forEach((socket) => socket.destroy())
}

async function restore(address) {
  target = address
  proxy.listen(port, '127.0.0.1')
  await once(proxy, 'listening')
}

async function publish(key, body) {
  const answer = await fetch(`http://${target}/api/v1/topics/orders/events?key=${key}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body,
  })
  assert.equal(answer.status < 300, true, await answer.clone().text())
}

/** An event of the order ORDER-7. */
async function happen(id, type, source, cause) {
  const headers = { 'content-type': 'application/json', 'ce-specversion': '1.0', 'ce-id': id, 'ce-type': type, 'ce-source': source, 'ce-correlationid': 'ORDER-7' }
  if (cause !== undefined) headers['ce-causationid'] = cause
  const answer = await fetch(`http://${target}/api/v1/topics/orders/events`, { method: 'POST', headers, body: '{}' })
  assert.equal(answer.status < 300, true, await answer.clone().text())
}

const browser = await launch()
const page = await open(browser, base)

await step('the page comes with a policy, and its script is kept for ever', async () => {
  const answer = await page.goto('/')
  const policy = answer.headers()['content-security-policy']
  assert.match(policy, /default-src 'none'; script-src 'self'/)
  const script = await page.locator('script[type=module]').getAttribute('src')
  const kept = await page.request.get(script)
  assert.match(kept.headers()['cache-control'], /immutable/)
  const again = await page.request.get(script, { headers: { 'if-none-match': kept.headers().etag } })
  assert.equal(again.status(), 304)
})

await step('the overview shows that the server is ready', async () => {
  await visit(page, '/', 'Ready')
  await page.getByRole('link', { name: 'orders' }).waitFor()
  await accessible(page, 'overview')
})

await step('the keyboard alone leads to an event', async () => {
  await page.keyboard.press('g')
  await page.keyboard.press('t')
  await page.waitForFunction(() => document.querySelector('h1')?.textContent === 'Topics')
  await page.getByRole('link', { name: 'orders' }).waitFor()
  await page.keyboard.press('/')
  await page.keyboard.type('ord')
  await page.keyboard.press('Enter')
  await page.keyboard.press('j')
  await page.keyboard.press('Enter')
  await page.waitForFunction(() => location.pathname === '/topics/orders')
  assert.equal(await heading(page), 'orders')
  await page.getByText('the newest first').waitFor()
  await page.keyboard.press('j')
  await page.keyboard.press('Enter')
  await page.getByRole('button', { name: 'Close' }).waitFor()
  await accessible(page, 'messages')
  await page.keyboard.press('Escape')
  assert.equal(await page.getByRole('button', { name: 'Close' }).count(), 0)
})

await step('a number of 64 bits is shown and copied digit by digit', async () => {
  await visit(page, '/topics/orders?key=BIG', '1 event found')
  await page.keyboard.press('j')
  await page.keyboard.press('Enter')
  await page.locator('.json').getByText('9007199254740993', { exact: true }).waitFor()
  await page.getByRole('button', { name: 'Text' }).click()
  await page.locator('pre').getByText('9007199254740993').waitFor()
  await page.getByRole('button', { name: 'Copy value' }).click()
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), '{"id":9007199254740993}')
  // What is chosen is in the address, which somebody else can open.
  const address = await path(page)
  await visit(page, address, '1 event found')
  await page.locator('.json').getByText('9007199254740993', { exact: true }).waitFor()
})

await step('numbers are searched for digit by digit', async () => {
  await visit(page, '/topics/orders?json=/id=9007199254740993', '1 event found')
  await visit(page, '/topics/orders?json=/id=9007199254740992', 'Nothing fits')
})

await step('a script in a payload does nothing', async () => {
  await visit(page, '/topics/orders?key=SCRIPT', '1 event found')
  await page.keyboard.press('j')
  await page.keyboard.press('Enter')
  await page.locator('.json').getByText("<img src=x onerror=\"window.owned=1\">").waitFor()
  for (const view of ['Text', 'Tree']) await page.getByRole('button', { name: view }).click()
  assert.equal(await page.evaluate(() => window.owned), undefined)
  assert.equal(await page.locator('main img, main script').count(), 0)
})

await step('what is published here says what it will do, and has an address', async () => {
  await visit(page, '/topics/orders/publish', 'Appends 1 event')
  await page.getByLabel('Type', { exact: true }).fill('orders.order-placed')
  await page.getByLabel(/^Key:/).fill('FROM-CONSOLE')
  await page.getByLabel('Payload').fill('{"total": 18446744073709551615}')
  await page.getByText('of type orders.order-placed with 31 B of payload to orders, to the partition of the key FROM-CONSOLE').waitFor()
  await accessible(page, 'publish')
  await page.getByRole('button', { name: 'Publish to orders' }).click()
  await page.getByRole('link', { name: /^orders\/\d at offset \d+$/ }).click()
  await page.waitForFunction(() => location.pathname.startsWith('/e/orders/'))
  await page.locator('.json').getByText('18446744073709551615', { exact: true }).waitFor()
  await page.getByRole('row', { name: /^type orders\.order-placed/ }).waitFor()
  await accessible(page, 'an event')
})

await step('partitions, groups and configs have their places', async () => {
  await visit(page, '/topics/orders/partitions', 'Oldest')
  await page.getByRole('row').nth(3).waitFor()
  await page.keyboard.press('5')
  await page.getByRole('link', { name: 'billing' }).waitFor()
  await page.keyboard.press('6')
  await page.getByText('retention.ms').first().waitFor()
  await visit(page, '/groups', 'billing')
  await page.getByRole('link', { name: 'billing' }).click()
  await page.getByText('Lag in time').first().waitFor()
  await page.getByRole('row', { name: /orders/ }).first().waitFor()
  await accessible(page, 'a group')
})

await step('what belongs together is found by its correlation id, and each event by its own', async () => {
  await happen('placed-7', 'orders.order-placed', 'storefront')
  await happen('requested-7', 'orders.payment-requested', 'storefront', 'placed-7')
  await happen('paid-7', 'orders.order-paid', 'payments', 'requested-7')
  await happen('noted-7', 'orders.order-noted', 'analytics', 'nobody-knows')
  await visit(page, '/trace/ORDER-7', 'orders.order-paid')
  await page.getByText('nobody-knows').waitFor()
  const types = await page.locator('[id^=event-] .name').allTextContents()
  assert.deepEqual(types.toSorted(), ['nobody-knows', 'orders.order-noted', 'orders.order-paid', 'orders.order-placed', 'orders.payment-requested'])
  await accessible(page, 'a trace')
  await page.keyboard.press('2')
  await page.getByRole('region', { name: 'Sequence' }).getByText('payments', { exact: true }).waitFor()
  await visit(page, '/trace/paid-7', 'orders.order-noted')
  await page.getByRole('link', { name: 'its own address' }).click()
  await page.waitForFunction(() => location.pathname === '/trace/ORDER-7')
  await visit(page, '/traces', 'orders.order-placed')
  await accessible(page, 'traces')
})

await step('a server that no service has spoken to says so, and not that nothing is dead', async () => {
  await visit(page, '/dlq', 'No service has announced itself here')
  await accessible(page, 'dead letters')
})

await step('what is published is seen at once, and the list can be paused', async () => {
  await visit(page, '/topics/orders/live', 'Live')
  await page.getByRole('row').nth(3).waitFor()
  await publish('LIVE-1', '{"n":1}')
  await page.getByRole('gridcell', { name: 'LIVE-1' }).waitFor()
  await page.keyboard.press('p')
  await page.getByText('Paused').waitFor()
  await publish('LIVE-2', '{"n":2}')
  await page.getByText('1 new ↑').waitFor()
  assert.equal(await page.getByRole('gridcell', { name: 'LIVE-2' }).count(), 0)
  await page.keyboard.press('p')
  await page.getByRole('gridcell', { name: 'LIVE-2' }).waitFor()
  await accessible(page, 'live')
})

await step('a server that goes away is missed, and what was seen stays', async () => {
  await cut()
  await page.getByText('The server does not answer.').first().waitFor()
  await page.getByText('Interrupted, trying again').waitFor()
  await page.getByRole('gridcell', { name: 'LIVE-2' }).waitFor()
  await accessible(page, 'away')
})

await step('when it returns, the page goes on by itself and misses nothing', async () => {
  console.log('RESTART')
  const { value: address } = await answers.next()
  target = address.trim()
  await publish('MEANWHILE', '{"n":3}')
  await restore(target)
  await page.getByText('The server does not answer.').first().waitFor({ state: 'detached' })
  await page.getByRole('gridcell', { name: 'MEANWHILE' }).waitFor()
  await publish('AFTER', '{"n":4}')
  await page.getByRole('gridcell', { name: 'AFTER' }).waitFor()
})

await step('nothing in all that was an error', () => noFaults(page))

await browser.close()
close()
