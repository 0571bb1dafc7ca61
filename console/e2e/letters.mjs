// Ten thousand dead letters of a real service: `node letters.mjs HTTP_ADDRESS FAILURE`. The service `billing` has
// that failure alone, with the letters 1 to 10000, and the server has its key.
import { accessible, assert, close, launch, noFaults, open, step, visit } from './support.mjs'

const [address, failure] = process.argv.slice(2)
const browser = await launch()
const page = await open(browser, `http://${address}`)

await step('the overview counts ten thousand letters, and leads to them', async () => {
  await visit(page, '/', 'Newest failures')
  await page.getByRole('link', { name: /Dead letters 10,000/ }).click()
  await page.getByRole('link', { name: /NotBilled/ }).first().click()
  await page.getByText('1,000 letters so far').waitFor()
})

await step('they are a list like any other, of which only the rows in sight are in the page', async () => {
  for (let more = 2; more <= 10; more += 1) {
    await page.getByRole('button', { name: '1,000 more', exact: true }).click()
    await page.getByText(more < 10 ? `${more},000 letters so far` : /^10,000 letters/).first().waitFor()
  }
  const rows = await page.getByRole('row').count()
  assert.ok(rows < 100, `${rows} rows are in the page`)
  await page.getByRole('grid').focus()
  await page.keyboard.press('End')
  await page.getByRole('link', { name: '10000', exact: true }).waitFor()
  await accessible(page, 'ten thousand dead letters')
})

await step('a redrive of all of them says what it will do', async () => {
  await visit(page, `/dlq/billing/${failure}?do=redrive`, 'Sends 10,000 letters back')
})

await step('nothing in all that was an error', () => noFaults(page))
await browser.close()
close()
