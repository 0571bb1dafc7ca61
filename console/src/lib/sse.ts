// Server-sent events out of a response's body (the WHATWG's "event stream"). The browser's own `EventSource`
// can send neither a credential nor a body.

export interface ServerEvent {
  /** `message` where the stream does not say. */
  event: string
  data: string
  /** The last one that was seen; what to go on from. */
  id: string
}

/** Takes a stream in pieces, wherever they are cut, and hands back the events that are whole. */
export class EventParser {
  private rest = ''
  private event = ''
  private data: string[] = []
  private id = ''

  /** Where the stream goes on: signs of life say so too, though they are no events. */
  get lastId(): string {
    return this.id
  }

  push(piece: string): ServerEvent[] {
    const lines = (this.rest + piece).split(/\r\n|\n|\r(?!$)/)
    this.rest = lines.pop() ?? ''
    const events: ServerEvent[] = []
    for (const line of lines) {
      if (line === '') {
        if (this.data.length > 0) {
          events.push({ event: this.event || 'message', data: this.data.join('\n'), id: this.id })
        }
        this.event = ''
        this.data = []
      } else {
        this.field(line)
      }
    }
    return events
  }

  private field(line: string): void {
    const colon = line.indexOf(':')
    // A comment, which keeps the connection alive.
    if (colon === 0) return
    const name = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (name === 'data') this.data.push(value)
    else if (name === 'event') this.event = value
    else if (name === 'id') this.id = value
  }
}
