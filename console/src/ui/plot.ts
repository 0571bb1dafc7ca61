// The charts' library, in a file of its own: nobody waits for it who sees no chart.

import uPlot from 'uplot'
import 'uplot/dist/uPlot.min.css'

export interface Plot {
  data: uPlot.AlignedData
  width: number
  height: number
  line: string
  grid: string
  text: string
  isUtc: boolean
  /** Steps of the scale that are round for people. */
  steps: number[] | undefined
  write: (value: number) => string
  /** The point under the pointer. */
  onpoint: (index: number | null) => void
}

/** Steps of the axis of times, in seconds: its labels have minutes and no smaller ones. */
const MINUTES = [1, 2, 5, 10, 15, 30, 60, 120, 240, 360, 720, 1440, 2880, 10_080].map((minutes) => minutes * 60)

export function draw(target: HTMLElement, plot: Plot): uPlot {
  const { data, width, height, line, grid, text, isUtc, steps, write, onpoint } = plot
  const font = '11px system-ui, sans-serif'
  const ticks = { stroke: grid, width: 1, size: 4 }
  return new uPlot(
    {
      width,
      height,
      legend: { show: false },
      cursor: { points: { size: 7 } },
      tzDate: (seconds) => (isUtc ? uPlot.tzDate(new Date(seconds * 1000), 'Etc/UTC') : new Date(seconds * 1000)),
      scales: {
        // Zero is the ground: a lag is a height above it.
        y: { range: (_, __, most) => [0, most > 0 ? most * 1.1 : 1] },
      },
      axes: [
        { stroke: text, font, grid: { show: false }, ticks, space: 70, incrs: MINUTES, values: (_, splits) => hours(splits, isUtc) },
        {
          stroke: text,
          font,
          grid: { stroke: grid, width: 1 },
          ticks: { show: false },
          ...(steps ? { incrs: steps } : {}),
          size: (self, values) => Math.max(48, ...(values ?? []).map((value) => self.ctx.measureText(value).width + 16)),
          // `1 min 00 s` is `1 min` where it is a round number.
          values: (_, splits) => splits.map((value) => write(value).replace(/ 00 (s|min|h)$/, '')),
        },
      ],
      hooks: { setCursor: [(self) => onpoint(self.cursor.idx ?? null)] },
      series: [
        {},
        {
          stroke: line,
          width: 1.6,
          fill: line.replace(/^rgb\((.*)\)$/, 'rgba($1, 0.1)'),
          points: { show: (data[0]?.length ?? 0) < 3 },
          spanGaps: false,
        },
      ],
    },
    data,
    target,
  )
}

/** Hours and minutes, and the day where it begins. */
function hours(splits: readonly number[], isUtc: boolean): string[] {
  const two = (value: number): string => String(value).padStart(2, '0')
  return splits.map((seconds) => {
    const at = new Date(seconds * 1000)
    const [hour, minute] = isUtc ? [at.getUTCHours(), at.getUTCMinutes()] : [at.getHours(), at.getMinutes()]
    const [month, day] = isUtc ? [at.getUTCMonth(), at.getUTCDate()] : [at.getMonth(), at.getDate()]
    return hour === 0 && minute === 0 ? `${two(month + 1)}-${two(day)}` : `${two(hour)}:${two(minute)}`
  })
}
