// Dead letters and traces, against a server that is made up.
import { accessible, assert, close, heading, launch, mock, noFaults, open, path, step, visit, worthAxe } from './support.mjs'

const HERE = [
  ['/dlq/analytics/77aa01d4', 'This server has no key of the service'],
  ['/dlq/shipping/letters/99999', 'There is no such letter'],
  ['/dlq/billing', 'One that is full reads nothing more'],
  ['/trace/corr-7', 'payment.processed'],
  ['/trace/corr-7?view=sequence&at=3', 'nothing for'],
  ['/trace/corr-7?view=table', 'retention has deleted the record'],
  ['/trace/nothing', 'There is no such trace'],
]

const REAL = [
  ['/dlq', 'shipping::CarrierError'],
  ['/dlq/shipping/56804b16', '14 letters'],
  ['/dlq/shipping/56804b16?do=redrive', 'Sends 14 letters back'],
  ['/dlq/shipping/56804b16?do=discard', 'Gives 14 letters up'],
  ['/dlq/shipping/letters/3', 'unknown country IS'],
  ['/dlq/shipping/letters/3?do=edit', 'Nothing changes yet'],
  ['/foreign/orders-dlt', 'java.lang.IllegalStateException'],
  ['/traces', 'order.placed'],
]

const button = (page, name) => page.getByRole('button', { name, exact: true })

async function press(page, name) {
  await button(page, name).focus()
  await page.keyboard.press('Enter')
}

async function deadLetters(page) {
  await step('the overview leads to failures, and what is unknown is not 0', async () => {
    await visit(page, '/', 'Newest failures')
    await page.getByRole('link', { name: /Dead letters 18/ }).click()
    await page.getByText('fraud-check does not say what is dead now').waitFor()
    const row = page.getByRole('row', { name: /serde_json::Error/ })
    assert.equal((await row.getByRole('gridcell').nth(3).textContent()).trim(), 'unknown')
  })

  await step('a consumer that reads nothing more is named, with how much is parked and may be', async () => {
    const cells = async (row) => (await row.getByRole('cell').allTextContents()).map((text) => text.trim())
    await visit(page, '/dlq', 'Too much is parked')
    const table = page.getByRole('table', { name: 'Too much is parked' })
    const full = table.getByRole('row', { name: /billing-v2/ })
    assert.deepEqual(await cells(full), ['Full', '38', '38', '4'])
    assert.equal(await table.getByRole('row').count(), 2, 'the others have room, or do not say it')
    await full.getByRole('link', { name: 'billing', exact: true }).click()
    await page.waitForFunction(() => location.pathname === '/dlq/billing')
    const consumers = page.getByRole('table', { name: 'Consumers' })
    await consumers.getByRole('row', { name: /billing-v2/ }).getByText('Full').waitFor()
    await visit(page, '/dlq/shipping', 'Consumers')
    const reads = consumers.getByRole('row', { name: /shipping/ })
    assert.deepEqual(await cells(reads), ['Reads', '38', '100,000', '4'])
    await visit(page, '/dlq/analytics', 'Consumers')
    const silent = consumers.getByRole('row', { name: /analytics/ })
    assert.deepEqual(await cells(silent), ['Silent', 'unknown', 'unknown', 'unknown'])
  })

  await step('what does not go on is named, with the reason and since when, and a silent instance is not believed', async () => {
    const cells = async (row) => (await row.getByRole('cell').allTextContents()).map((text) => text.replace(/\s+/g, ' ').trim())
    await visit(page, '/dlq', 'What does not go on')
    const table = page.getByRole('table', { name: 'What does not go on' })
    const rows = table.getByRole('row')
    assert.equal(await rows.count(), 3, 'analytics is silent')
    const [why, topic, since, tries] = await cells(rows.nth(1))
    assert.deepEqual([why, topic, tries], ['Stalled The engine cannot read the partition', 'payments/2', '1,804'], 'the longest first')
    assert.notEqual(since, 'no time')
    await rows.nth(2).getByText('outbox, or what is scheduled').waitFor()
    await rows.nth(2).getByRole('link', { name: 'shipping', exact: true }).click()
    await page.waitForFunction(() => location.pathname === '/dlq/shipping')
    await rows.nth(1).getByText('The engine does not take an event as it is').waitFor()
    assert.equal(await rows.count(), 2, 'of this service alone')
    await visit(page, '/dlq/analytics', 'Consumers')
    assert.equal(await table.count(), 0)
  })

  await step('the keyboard alone chooses letters, sees what a redrive does, and does it', async () => {
    await visit(page, '/', 'Newest failures')
    for (const key of ['g', 'd']) await page.keyboard.press(key)
    await page.getByRole('link', { name: 'billing::NotBilled' }).waitFor()
    await page.keyboard.press('/')
    await page.keyboard.type('billing')
    for (const key of ['Enter', 'j', 'Enter']) await page.keyboard.press(key)
    await page.getByText('3 letters').first().waitFor()
    assert.equal(await heading(page), 'billing::NotBilled')
    await page.getByRole('row').nth(3).waitFor()
    for (const key of ['j', 'x', 'j', 'x']) await page.keyboard.press(key)
    await page.getByText('2 letters chosen').waitFor()
    await press(page, 'Redrive 2 letters…')
    await page.getByText('Sends 2 letters back to the consumer where they failed').waitFor()
    await page.getByRole('cell', { name: 'calls to other systems' }).waitFor()
    await press(page, 'Redrive 2 letters')
    await page.getByText('2 letters: 2 handled').waitFor()
    await accessible(page, 'a redrive')
    assert.match(await path(page), /^\/dlq\/billing\/redrives\/[\w-]{36}$/)
    const states = await page.getByRole('row').nth(1).getByRole('gridcell').allTextContents()
    assert.deepEqual([states[1].trim(), states[3].trim()], ['Handled', 'Redriven'])
  })

  await step('a redrive says how far it is, and what has not begun can be cancelled', async () => {
    await visit(page, '/dlq/shipping/56804b16?do=redrive', 'Sends 14 letters back')
    await page.getByLabel('At most so many a second').fill('x')
    await page.getByText('A rate is a whole number').waitFor()
    await page.getByLabel('At most so many a second').fill('1')
    await page.getByText('at most 1 a second').waitFor()
    await button(page, 'Redrive 14 letters').click()
    await page.getByText(/14 letters: .*handled.* wait/).waitFor()
    await button(page, 'Cancel what has not begun').click()
    await page.getByText(/14 letters: .*\d cancelled/).waitFor()
    await page.getByRole('gridcell', { name: 'Cancelled' }).first().waitFor()
    assert.equal(await button(page, 'Cancel what has not begun').count(), 0)
  })

  await step('what fails again in a redrive is said, letter by letter', async () => {
    await visit(page, '/dlq/shipping/56804b16?do=redrive', /Sends \d+ letters back/)
    await page.getByRole('button', { name: /^Redrive \d+ letters$/ }).click()
    await page.getByText('Done, some failed again').waitFor()
    await page.getByRole('gridcell', { name: 'Failed again' }).first().waitFor()
    await page.getByRole('link', { name: 'the failures of shipping' }).click()
    await page.getByRole('link', { name: 'shipping::CarrierError' }).waitFor()
  })

  await step('nothing is discarded without a reason, and it is said what was', async () => {
    await visit(page, '/dlq/billing/1f0a99c2?do=discard', 'Gives 1 letter up')
    await button(page, 'Discard 1 letter').click()
    await page.getByText('Say why').waitFor()
    await page.getByRole('textbox', { name: /^Why/ }).fill('paid by hand')
    await button(page, 'Discard 1 letter').click()
    await page.getByText('1 letter discarded').waitFor()
    await page.getByText('Nobody has to decide about this failure any more').waitFor()
    await page.getByRole('gridcell', { name: 'Discarded' }).waitFor()
    await page.getByRole('gridcell', { name: 'Redriven' }).first().waitFor()
  })
}

async function editing(page) {
  await step('a letter is edited digit by digit, and what changes is seen first', async () => {
    await visit(page, '/dlq/shipping/letters/7', 'unknown country IS')
    assert.equal(await page.evaluate(() => window.owned), undefined)
    await button(page, 'Edit…').click()
    const value = page.getByRole('textbox', { name: 'Value', exact: true })
    const before = await value.inputValue()
    await value.fill('{')
    await button(page, 'Save').click()
    await page.getByText('This is not JSON.').waitFor()
    await page.getByText('Say why').waitFor()
    await value.fill(before.replace('9007199254740993', '9007199254740995').replace('"IS"', '"NO"'))
    const row = page.getByRole('row', { name: /\/cents/ })
    await row.getByText('9007199254740993').waitFor()
    await row.getByText('9007199254740995').waitFor()
    await page.getByRole('row', { name: /\/customer\/country/ }).waitFor()
    await page.getByRole('textbox', { name: /^Why/ }).fill('the carrier knows no IS')
    await accessible(page, 'an edit')
    await button(page, 'Save').click()
    await page.getByText('It was edited').waitFor()
    await page.getByText('the carrier knows no IS').waitFor()
    assert.equal(await path(page), '/dlq/shipping/letters/7')
  })
}

async function parked(page) {
  await step('what waits behind a letter is given up with a reason, and the letter stays', async () => {
    await visit(page, '/dlq/shipping/letters/3', 'later events of the key wait for this one')
    await button(page, 'Discard what waits behind…').click()
    await page.getByText('Gives 2 events up').waitFor()
    await page.getByText('1 dead letter of the key stays').waitFor()
    await accessible(page, 'parked events that are given up')
    await button(page, 'Discard 2 events').click()
    await page.getByText('Say why').waitFor()
    await page.getByRole('textbox', { name: /^Why/ }).fill('no orders any more')
    await button(page, 'Discard 2 events').click()
    await page.getByText('2 events discarded').waitFor()
    await page.getByText('Nothing yet.').waitFor()
    await visit(page, '/dlq/shipping/letters/3?do=parked', 'nothing waits there but dead letters')
    await visit(page, '/dlq/shipping/letters/7', 'later events of the key go on')
    assert.equal(await button(page, 'Discard what waits behind…').count(), 0)
  })
}

async function traces(page) {
  await step('a trace is walked through by keyboard, and each event is a link', async () => {
    await visit(page, '/', 'Newest failures')
    for (const key of ['g', 'r']) await page.keyboard.press(key)
    await page.getByRole('row').nth(3).waitFor()
    await page.keyboard.press('/')
    await page.keyboard.type('corr-7')
    await page.keyboard.press('Enter')
    await page.locator('#event-0').waitFor()
    await page.keyboard.press('Escape')
    await page.waitForFunction(() => location.pathname === '/traces')
    await visit(page, '/trace/corr-7?at=0', 'payment.processed')
    await page.locator('#event-0').waitFor()
    for (const key of ['ArrowRight', 'ArrowDown', 'ArrowRight', 'ArrowRight']) await page.keyboard.press(key)
    assert.equal(await path(page), '/trace/corr-7?at=3')
    assert.equal(await page.evaluate(() => document.activeElement?.id), 'event-3')
    await page.keyboard.press('ArrowLeft')
    await page.keyboard.press('2')
    await page.getByText('nothing for 4 h 00 min').waitFor()
    assert.equal(await path(page), '/trace/corr-7?at=2&view=sequence')
    await page.keyboard.press('3')
    await page.getByRole('grid').waitFor()
    await page.keyboard.press('1')
    await page.locator('#event-2').click()
    await page.waitForFunction(() => location.pathname === '/e/payments/2/301002')
  })

  await step('a cause that is not in the index, and a dead letter, are called so', async () => {
    await visit(page, '/trace/corr-7', 'payment.processed')
    await page.getByText('not in the index').waitFor()
    await page.getByText('dead letter of shipping · shipping::CarrierError').waitFor()
    await page.getByText('8,112 of 1,204,331 events carry no correlation id').waitFor()
  })

  await step('an event leads to its trace, where it is the chosen one', async () => {
    await visit(page, '/trace/019ad23a-6f10-7c9e-9a52-000000000003', 'inventory.reserved')
    await page.locator('#event-3.chosen').waitFor()
    await visit(page, '/e/orders/1/301000', 'CloudEvent')
    await page.getByRole('link', { name: 'Trace', exact: true }).click()
    await page.waitForFunction(() => location.pathname.startsWith('/trace/corr-'))
  })

  await step('of many events 500 are drawn, and more when somebody wants them', async () => {
    await visit(page, '/trace/large', '500 of 1,200 events are shown')
    await page.locator('#event-499').waitFor()
    assert.equal(await page.locator('[id^=event-]').count(), 500)
    await button(page, 'Show 500 more').click()
    await page.getByText('1,000 of 1,200 events are shown').waitFor()
    await page.locator('#event-999').waitFor()
    await button(page, 'Show 500 more').click()
    await page.locator('#event-1199').waitFor()
    for (const [key, last] of [['2', '#event-1199'], ['1', '#event-0']]) {
      await page.keyboard.press(key)
      await page.locator(last).waitFor()
    }
  })
}

async function foreign(page) {
  await step('letters of another framework are given up where they are looked at, with a reason', async () => {
    await visit(page, '/foreign/orders-dlt', 'java.lang.IllegalStateException')
    await press(page, 'Discard the letters of java.lang.IllegalStateException…')
    await page.getByText('Gives 11 letters up').waitFor()
    await accessible(page, 'foreign letters that are given up')
    await press(page, 'Discard 11 letters')
    await page.getByRole('alert').waitFor()
    await page.getByLabel(/^Why/).fill('a test order')
    await press(page, 'Discard 11 letters')
    await page.getByText('11 letters discarded').waitFor()
  })
}

async function many(browser) {
  const page = await open(browser, await mock({ MOCK_LETTERS: '10000', MOCK_READ_ONLY: '1' }))
  await step('ten thousand dead letters are a list like any other, and a read-only server decides nothing', async () => {
    await visit(page, '/dlq/shipping/56804b16', '1,000 letters so far')
    for (let more = 2; more < 10; more += 1) {
      await button(page, '1,000 more').click()
      await page.getByText(`${more},000 letters so far`).waitFor()
    }
    await button(page, '1,000 more').click()
    await page.getByText('10,000 letters', { exact: true }).waitFor()
    const rows = await page.getByRole('row').count()
    assert.ok(rows < 100, `${rows} rows are in the page`)
    await page.getByRole('grid').focus()
    await page.keyboard.press('End')
    await page.getByRole('link', { name: '10000', exact: true }).waitFor()
    await page.getByText('is read-only').waitFor()
    const [saved] = await Promise.all([page.waitForEvent('download'), button(page, 'Export').click()])
    assert.equal(saved.suggestedFilename(), 'shipping-56804b16.jsonl')
    await page.getByText('250 letters exported').waitFor()
    for (const name of ['Redrive all…', 'Archive all…', 'Discard all…']) assert.ok(await button(page, name).isDisabled(), name)
    noFaults(page)
  })
}

async function none(browser) {
  const page = await open(browser, await mock({ MOCK_EMPTY: '1' }))
  await step('without services and traces it is said what to do', async () => {
    for (const [address, text] of [['/dlq', 'No service has announced itself here'], ['/traces', 'ce_correlationid']]) {
      await visit(page, address, text)
      await accessible(page, `empty ${address}`)
    }
    noFaults(page)
  })
}

const browser = await launch()
const page = await open(browser, await mock())
for (const [address, text] of worthAxe(HERE, REAL)) {
  await step(`axe is content with ${address} in light and dark`, async () => {
    await visit(page, address, text)
    await accessible(page, address)
  })
}
await parked(page)
await editing(page)
await deadLetters(page)
await traces(page)
await foreign(page)
await step('nothing with dead letters and traces was an error', () => noFaults(page))
await many(browser)
await none(browser)
await browser.close()
close()
