// Smaller pictures of screens: a PNG of at most 256 colours, from one as a browser makes it. A screen has few
// colours but for the edges of its letters, so nobody sees the difference.
import { deflateSync, inflateSync } from 'node:zlib'

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
const COLOURS = 256

/** The same picture with a palette. */
export function withPalette(png) {
  const { width, height, pixels } = decode(png)
  const { palette, nearest } = paletteOf(pixels)
  // Every row begins with the number of its filter: none, which is best for indices.
  const rows = Buffer.alloc((width + 1) * height)
  for (let at = 0; at < pixels.length; at += 1) rows[at + Math.floor(at / width) + 1] = nearest(pixels[at])
  const head = Buffer.alloc(13)
  head.writeUInt32BE(width, 0)
  head.writeUInt32BE(height, 4)
  head.set([8, 3, 0, 0, 0], 8)
  const colours = Buffer.from(palette.flatMap(parts))
  const parted = [['IHDR', head], ['PLTE', colours], ['IDAT', deflateSync(rows, { level: 9 })], ['IEND', Buffer.alloc(0)]]
  return Buffer.concat([SIGNATURE, ...parted.map(([name, data]) => chunk(name, data))])
}

const parts = (colour) => [(colour >> 16) & 255, (colour >> 8) & 255, colour & 255]

/** The commonest colours, and for each other one that which is nearest to it. */
function paletteOf(pixels) {
  const counts = new Map()
  for (const colour of pixels) counts.set(colour, (counts.get(colour) ?? 0) + 1)
  const palette = [...counts].toSorted((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, COLOURS).map(([colour]) => colour)
  const known = new Map(palette.map((colour, index) => [colour, index]))
  const far = (a, b) => parts(a).reduce((sum, part, index) => sum + (part - parts(b)[index]) ** 2, 0)
  const nearest = (colour) => {
    const found = known.get(colour)
    if (found !== undefined) return found
    let best = 0
    for (let index = 1; index < palette.length; index += 1) {
      if (far(colour, palette[index]) < far(colour, palette[best])) best = index
    }
    known.set(colour, best)
    return best
  }
  return { palette, nearest }
}

/** What browsers write: 8 bits, RGB or RGBA, not interlaced. */
function decode(png) {
  const [width, height, kind] = [png.readUInt32BE(16), png.readUInt32BE(20), png[25]]
  if (png[24] !== 8 || (kind !== 2 && kind !== 6) || png[28] !== 0) throw new Error('this is no PNG as browsers write them')
  const data = []
  for (let at = 8; at < png.length; at += 12 + png.readUInt32BE(at)) {
    if (png.toString('latin1', at + 4, at + 8) === 'IDAT') data.push(png.subarray(at + 8, at + 8 + png.readUInt32BE(at)))
  }
  const step = kind === 6 ? 4 : 3
  const line = width * step
  const bytes = inflateSync(Buffer.concat(data))
  const pixels = new Uint32Array(width * height)
  let above = Buffer.alloc(line)
  for (let y = 0; y < height; y += 1) {
    const row = bytes.subarray(y * (line + 1) + 1, (y + 1) * (line + 1))
    unfilter(bytes[y * (line + 1)], row, above, step)
    for (let x = 0; x < width; x += 1) pixels[y * width + x] = row.readUIntBE(x * step, 3)
    above = row
  }
  return { width, height, pixels }
}

function unfilter(filter, row, above, step) {
  for (let at = 0; at < row.length; at += 1) {
    const left = at < step ? 0 : row[at - step]
    const corner = at < step ? 0 : above[at - step]
    const guess = [0, left, above[at], (left + above[at]) >> 1, filter === 4 ? paeth(left, above[at], corner) : 0][filter]
    row[at] = (row[at] + guess) & 255
  }
}

function paeth(left, above, corner) {
  const guess = left + above - corner
  const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - above), Math.abs(guess - corner)]
  if (a <= b && a <= c) return left
  return b <= c ? above : corner
}

const CRC = Array.from({ length: 256 }, (_, index) => {
  let value = index
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1
  return value >>> 0
})

function chunk(name, data) {
  const body = Buffer.concat([Buffer.from(name, 'latin1'), data])
  const crc = body.reduce((sum, byte) => CRC[(sum ^ byte) & 255] ^ (sum >>> 8), 0xffffffff) ^ 0xffffffff
  const whole = Buffer.alloc(body.length + 8)
  whole.writeUInt32BE(data.length, 0)
  whole.set(body, 4)
  whole.writeUInt32BE(crc >>> 0, body.length + 4)
  return whole
}
