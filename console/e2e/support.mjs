// What the end-to-end tests have in common: a browser, steps with names, and axe.
import { strict as assert } from 'node:assert'
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { chromium } from 'playwright-core'

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
// Generous, because a busy machine is not a failure.
const PATIENCE_MS = 120_000
/** What is quick, a tenth of a second on a machine of its own, is never as slow as this beside other tests. */
export const QUICK_MS = 30_000
/** All of it; whoever started the test has its own patience. */
const OVER_MS = 300_000

/** Debian's Chromium, as root and without a network but loopback. */
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

let over

/** How long all of it may take. */
export function within(ms) {
  clearTimeout(over)
  over = setTimeout(() => {
    console.error(`over time: ${ms / 1000} s`)
    process.exit(1)
  }, ms).unref()
}

within(OVER_MS)

let passed = 0

/** One thing that is proved. */
export async function step(name, run) {
  const begun = performance.now()
  try {
    await run()
  } catch (error) {
    console.error(`FAILED ${name}\n${error.stack ?? error}`)
    process.exit(1)
  }
  passed += 1
  console.log(`ok ${name} (${Math.round(performance.now() - begun)} ms)`)
}

export function close() {
  console.log(`${passed} steps passed`)
  process.exit(0)
}

export async function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS })
}

const made = []

/** A server that is made up, and its address. */
export async function mock(environment = {}) {
  const script = new URL('../dev/mock.mjs', import.meta.url).pathname
  const child = spawn(process.execPath, [script], { env: { ...process.env, MOCK_PORT: '0', ...environment }, stdio: ['ignore', 'pipe', 'inherit'] })
  made.push(child)
  for await (const line of createInterface({ input: child.stdout })) return line
  throw new Error('the made-up server does not start')
}

process.on('exit', () => made.forEach((child) => child.kill()))

/** A page on which nothing may go wrong that nobody expects. */
export async function open(browser, base, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 820 }, baseURL: base, ...options })
  await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: base })
  const page = await context.newPage()
  page.setDefaultTimeout(PATIENCE_MS)
  const faults = []
  page.on('pageerror', (error) => faults.push(`an error: ${error.message}`))
  page.on('console', (message) => {
    const isNetwork = message.text().includes('Failed to load resource') || message.text().includes('ERR_')
    if (message.type() === 'error' && !isNetwork) faults.push(`the console: ${message.text()}`)
  })
  page.faults = faults
  return page
}

export function noFaults(page) {
  assert.deepEqual(page.faults, [])
}

/** Goes to an address and waits until the screen has its heading and what it asked for. */
export async function visit(page, path, waitFor) {
  await page.goto(path)
  await page.locator('h1').waitFor()
  if (waitFor) await page.getByText(waitFor).first().waitFor()
}

/** axe finds nothing, in light and in dark, where only colours differ. */
export async function accessible(page, what) {
  for (const [colorScheme, runOnly] of [['light', null], ['dark', ['color-contrast']]]) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
    await page.evaluate(`if (!window.axe) { ${AXE} }`)
    const found = await page.evaluate(async (runOnly) => {
      const result = await window.axe.run(document, { resultTypes: ['violations'], ...(runOnly ? { runOnly } : {}) })
      return result.violations.map((one) => `${one.id}: ${one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(' | ')}`)
    }, runOnly)
    assert.deepEqual(found, [], `${what}, ${colorScheme}`)
  }
}

/**
 * Screens of a made-up server for axe. Those that `real.mjs` looks at on a real one are left out here, unless the
 * script is told `all`, as `npm run screens` does.
 */
export const worthAxe = (here, real) => (process.argv.includes('all') ? [...real, ...here] : here)

export const heading = (page) => page.locator('h1').textContent()
export const path = (page) => page.evaluate(() => location.pathname + location.search)
export { assert }
