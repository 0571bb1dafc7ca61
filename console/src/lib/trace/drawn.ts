// A causal tree on a plane.

import type { Placed } from './forest'

/** What a node takes. */
export const NODE_WIDTH = 216
export const NODE_HEIGHT = 46

export interface Box<T> {
  placed: Placed<T>
  x: number
  y: number
}

export interface Line {
  from: string
  to: string
  /** As an SVG path has it. */
  path: string
}

export interface Drawn<T> {
  width: number
  height: number
  boxes: Box<T>[]
  lines: Line[]
}
