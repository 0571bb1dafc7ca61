// A part of a screen's state that stands in the address, so that the screen can be sent to somebody.

import { router } from './router.svelte'

/** A text in the query, with what it is where the query is silent. */
export function inUrl(name: string, otherwise = ''): { value: string } {
  return {
    get value(): string {
      return router.query.get(name) ?? otherwise
    },
    set value(value: string) {
      router.set({ [name]: value === otherwise ? null : value })
    },
  }
}
