// Short words about what was just done. They are read out, and go by themselves.

const SHOWN_MS = 3500

class Notices {
  text = $state('')
  private timer = 0

  say(text: string): void {
    this.text = text
    clearTimeout(this.timer)
    this.timer = setTimeout(() => (this.text = ''), SHOWN_MS) as unknown as number
  }

  /** Puts a text on the clipboard and says so. */
  async copy(text: string, what: string): Promise<void> {
    this.say((await write(text)) ? `Copied ${what}` : `The browser does not let ${what} be copied`)
  }
}

export const notices = new Notices()

async function write(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text)
    return true
  } catch {
    return writeByHand(text)
  }
}

/** Pages that came by plain HTTP from another machine have no clipboard but this. */
function writeByHand(text: string): boolean {
  const field = document.createElement('textarea')
  field.value = text
  field.className = 'off-screen'
  document.body.append(field)
  field.select()
  try {
    return document.execCommand('copy')
  } finally {
    field.remove()
  }
}
