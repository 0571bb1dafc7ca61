// Every tick of a demo, brought about by the keyboard alone: `node demo.mjs HOST:PORT` of a `courant demo` that is
// told to break nothing by itself.
import { accessible, assert, close, launch, noFaults, open, step, visit } from './support.mjs'

const browser = await launch()
const page = await open(browser, `http://${process.argv[2]}`)

const list = page.getByRole('region', { name: 'What there is to see' })

/** Waits until a thing was seen. */
async function seen(title) {
  await list.getByRole('listitem').filter({ hasText: title }).getByText('Seen', { exact: true }).waitFor()
}

async function isSeen(title) {
  return (await list.getByRole('listitem').filter({ hasText: title }).getByText('Seen', { exact: true }).count()) > 0
}

/** Presses a button. */
async function press(name) {
  const button = page.getByRole('button', { name })
  await button.waitFor()
  await page.waitForFunction((button) => !button.disabled, await button.elementHandle())
  await button.focus()
  await page.keyboard.press('Enter')
}

/** A figure of the tiles. */
async function figure(name) {
  const tile = page.locator('.tile').filter({ hasText: name }).locator('.figure')
  return Number((await tile.textContent()).replaceAll(/\D/g, ''))
}

await step('the demo is found, and orders flow', async () => {
  await visit(page, '/')
  await page.getByRole('link', { name: 'Demo', exact: true }).focus()
  await page.keyboard.press('Enter')
  await seen('An order goes through five services')
  await accessible(page, 'the demo')
})

await step('one customer is parked, and the others are served', async () => {
  await press('Break: The carrier')
  await seen('A poison parks one customer')
  await seen('Everybody else is served meanwhile')
  assert.ok((await figure('Dead letters')) > 0)
  assert.ok(!(await isSeen('Repaired and sent back, in order')))
})

await step('repaired and sent back, the parcels leave in order', async () => {
  await press('Repair: The carrier')
  await press(/Send \d+ back/)
  await seen('Repaired and sent back, in order')
})

await step('a slow consumer falls behind, and catches up', async () => {
  await press('Break: Analytics')
  await seen('A slow consumer falls behind')
  await press('Repair: Analytics')
  await seen('It catches up')
})

await step('repetitions are ignored', async () => {
  await press("Break: The partner's gateway")
  await seen('Repetitions are ignored')
  await press("Repair: The partner's gateway")
})

await step('orders are taken while the broker is away, and leave when it is back', async () => {
  await press('Break: The line to the broker')
  // More than what the other services had at hand when they were cut off: the rest are orders.
  await page.waitForFunction(() => {
    const tiles = [...document.querySelectorAll('.tile')]
    const waiting = tiles.find((tile) => tile.textContent.includes('Waiting in the outbox'))
    return Number(waiting?.querySelector('.figure')?.textContent.replaceAll(/\D/g, '')) > 10
  })
  await press('Repair: The line to the broker')
  await seen('The broker is away, and orders are taken')
  await page.getByText('8 of 8 seen').waitFor()
  await accessible(page, 'a demo of which everything was seen')
})

await step('nothing in all that was an error', () => noFaults(page))

await browser.close()
close()
