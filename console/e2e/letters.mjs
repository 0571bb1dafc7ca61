// Many dead letters of a real service: `node letters.mjs HTTP_ADDRESS FAILURE HOW_MANY`, more than a thousand. The
// service `billing` has that failure alone, with the letters from 1 on, and the server has its key.
import { accessible, assert, close, launch, noFaults, open, step, visit } from './support.mjs'

const [address, failure, many] = process.argv.slice(2)
const written = Number(many).toLocaleString('en-US')
const browser = await launch()
const page = await open(browser, `http://${address}`)

await step('the overview counts all letters, and leads to them', async () => {
  await visit(page, '/', 'Newest failures')
  await page.getByRole('link', { name: `Dead letters ${written}` }).click()
  await page.getByRole('link', { name: /NotBilled/ }).first().click()
  await page.getByText('1,000 letters so far').waitFor()
})

await step('they are a list like any other, of which only the rows in sight are in the page', async () => {
  for (let listed = 1000; listed < Number(many); listed += 1000) {
    // The row of titles is one of them.
    await page.locator(`[role=grid][aria-rowcount="${listed + 1}"]`).waitFor()
    await page.getByRole('button', { name: '1,000 more', exact: true }).click()
  }
  await page.locator(`[role=grid][aria-rowcount="${Number(many) + 1}"]`).waitFor()
  const rows = await page.getByRole('row').count()
  assert.ok(rows < 100, `${rows} rows are in the page`)
  await page.getByRole('grid').focus()
  await page.keyboard.press('End')
  await page.getByRole('link', { name: many, exact: true }).waitFor()
  await accessible(page, 'many dead letters')
})

await step('a redrive of all of them says what it will do', async () => {
  await visit(page, `/dlq/billing/${failure}?do=redrive`, `Sends ${written} letters back`)
})

await step('nothing in all that was an error', () => noFaults(page))
await browser.close()
close()
