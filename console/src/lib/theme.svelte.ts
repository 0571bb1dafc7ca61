// Light or dark: as the system says, until somebody says otherwise.

export type Theme = 'system' | 'light' | 'dark'

const KEY = 'courant.theme'

function stored(): Theme {
  const theme = document.documentElement.dataset['theme']
  return theme === 'light' || theme === 'dark' ? theme : 'system'
}

class ThemeChoice {
  choice = $state<Theme>(stored())
  private systemIsDark = $state(false)

  constructor() {
    const query = matchMedia('(prefers-color-scheme: dark)')
    this.systemIsDark = query.matches
    query.addEventListener('change', () => (this.systemIsDark = query.matches))
  }

  get isDark(): boolean {
    return this.choice === 'system' ? this.systemIsDark : this.choice === 'dark'
  }

  choose(theme: Theme): void {
    this.choice = theme
    if (theme === 'system') delete document.documentElement.dataset['theme']
    else document.documentElement.dataset['theme'] = theme
    remember(KEY, theme === 'system' ? null : theme)
  }

  toggle(): void {
    this.choose(this.isDark ? 'light' : 'dark')
  }
}

export const theme = new ThemeChoice()

/** Keeps a choice over visits, where the browser lets us. */
export function remember(key: string, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem(key)
    else localStorage.setItem(key, value)
  } catch {
    // No storage: the choice holds until the page is closed.
  }
}

export function recall(key: string): string | null {
  try {
    return localStorage.getItem(key)
  } catch {
    return null
  }
}
