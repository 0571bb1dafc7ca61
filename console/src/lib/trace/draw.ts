// Where everything of a causal tree is, by dagre. It is a piece of its own: most screens need no tree.

import { Graph, layout } from '@dagrejs/dagre'
import { NODE_HEIGHT, NODE_WIDTH, type Drawn } from './drawn'
import { inOrder, type Placed, type TraceNode } from './forest'

const BESIDE = 12
const BETWEEN = 44
const MARGIN = 12

/** From left to right: a cause stands left of what it caused. */
export function draw<T extends TraceNode>(roots: readonly Placed<T>[]): Drawn<T> {
  const all = inOrder(roots)
  const graph = new Graph<{ width?: number; height?: number }, Size, { points?: { x: number; y: number }[] }>()
  graph.setGraph({ rankdir: 'LR', nodesep: BESIDE, ranksep: BETWEEN, marginx: MARGIN, marginy: MARGIN } as object)
  for (const { node } of all) graph.setNode(node.id, { width: NODE_WIDTH, height: NODE_HEIGHT })
  // dagre puts the last one that it is told of first.
  for (const { node, cause } of all.toReversed()) if (cause) graph.setEdge(cause.node.id, node.id, {})
  layout(graph)
  const boxes = all.map((placed) => {
    const { x = 0, y = 0 } = graph.node(placed.node.id)
    return { placed, x: Math.round(x - NODE_WIDTH / 2), y: Math.round(y - NODE_HEIGHT / 2) }
  })
  const at = new Map(boxes.map((box) => [box.placed.node.id, box]))
  const lines = boxes.flatMap((to) => {
    const from = to.placed.cause ? at.get(to.placed.cause.node.id) : undefined
    return from ? [{ from: from.placed.node.id, to: to.placed.node.id, path: curve(from, to) }] : []
  })
  const { width = 0, height = 0 } = graph.graph()
  return { width: Math.ceil(width), height: Math.ceil(height), boxes, lines }
}

interface Size {
  width: number
  height: number
  x?: number
  y?: number
}

interface Spot {
  x: number
  y: number
}

/** Out of the right side of a cause, into the left side of its effect. */
function curve(from: Spot, to: Spot): string {
  const [x1, y1] = [from.x + NODE_WIDTH, from.y + NODE_HEIGHT / 2]
  const [x2, y2] = [to.x - 5, to.y + NODE_HEIGHT / 2]
  const half = (x2 - x1) / 2
  return `M${x1} ${y1}C${x1 + half} ${y1} ${x2 - half} ${y2} ${x2} ${y2}`
}
