// What a browser fetches before it shows anything: the page, and what the page names. Above the budget the
// build fails. Charts come later, in a chunk of their own.
import { readFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'

const BUDGET_KB = 150
const dist = new URL('../../crates/courant-console/assets/dist/', import.meta.url)

const page = readFileSync(new URL('index.html', dist), 'utf8')
const named = [...page.matchAll(/(?:src|href)="\/([^"]+)"/g)].map((found) => found[1])
let total = 0
for (const name of ['index.html', ...named]) {
  const bytes = gzipSync(readFileSync(new URL(name, dist)), { level: 9 }).length
  total += bytes
  console.log(`${(bytes / 1024).toFixed(1).padStart(8)} KB  ${name}`)
}
console.log(`${(total / 1024).toFixed(1).padStart(8)} KB  first load, gzip; ${BUDGET_KB} KB are allowed`)
if (total > BUDGET_KB * 1024) {
  console.error('The console has become too large. Load what is not needed at once in a chunk of its own.')
  process.exit(1)
}
