// Before the first paint: a page in the wrong theme must not flash. The page's policy allows no inline script.
try {
  const theme = localStorage.getItem('courant.theme')
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme
} catch {
  // No storage: the system's theme it is.
}
