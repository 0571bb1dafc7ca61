// One open console, for as long as somebody measures what it costs: `node watch.mjs HTTP_ADDRESS PATH TEXT`.
// It says `watching` when the screen has that text, stays until its stdin ends, and fails when the screen
// does not show the server any more.
import { once } from 'node:events'
import { launch, noFaults, open, visit } from './support.mjs'

const [address, path, text] = process.argv.slice(2)

const browser = await launch()
const page = await open(browser, `http://${address}`)
await visit(page, path, text)
console.log('watching')
process.stdin.resume()
await once(process.stdin, 'end')
await page.getByText(text).first().waitFor()
noFaults(page)
await browser.close()
process.exit(0)
