import { expect, it } from 'vitest'
import { eventHref, href, match, title, type Route } from './route'

const ROUTES: [string, Route][] = [
  ['/', { screen: 'overview' }],
  ['/demo', { screen: 'demo' }],
  ['/topics', { screen: 'topics' }],
  ['/topics/orders', { screen: 'topic', topic: 'orders', tab: 'messages' }],
  ['/topics/orders/live', { screen: 'topic', topic: 'orders', tab: 'live' }],
  ['/topics/_courant.audit/config', { screen: 'topic', topic: '_courant.audit', tab: 'config' }],
  ['/topics/messages', { screen: 'topic', topic: 'messages', tab: 'messages' }],
  ['/e/orders/3/9007199254740993', { screen: 'event', topic: 'orders', partition: 3, offset: '9007199254740993' }],
  ['/groups', { screen: 'groups' }],
  ['/groups/a%2Fb%20c', { screen: 'group', group: 'a/b c' }],
  ['/dlq', { screen: 'dlq', service: null }],
  ['/dlq/billing', { screen: 'dlq', service: 'billing' }],
  ['/dlq/billing/56804b16', { screen: 'failure', service: 'billing', group: '56804b16' }],
  ['/dlq/billing/letters/9007199254740993', { screen: 'letter', service: 'billing', letter: '9007199254740993' }],
  ['/dlq/billing/redrives/till-repaired', { screen: 'redrive', service: 'billing', redrive: 'till-repaired' }],
  ['/foreign/orders-dlt', { screen: 'foreign', topic: 'orders-dlt' }],
  ['/traces', { screen: 'traces' }],
  ['/trace/a%2Fb%3Fc', { screen: 'trace', id: 'a/b?c' }],
  ['/settings', { screen: 'settings' }],
]

it('leads from a path to a screen and back', () => {
  for (const [path, route] of ROUTES) {
    expect(match(path), path).toEqual(route)
    expect(href(route), path).toBe(path)
  }
})

it('takes what people type', () => {
  expect(match('/topics/')).toEqual({ screen: 'topics' })
  expect(match('/topics/orders/messages')).toEqual({ screen: 'topic', topic: 'orders', tab: 'messages' })
})

it('has a screen for what is nowhere', () => {
  const paths = ['/x', '/topics/a/b', '/topics/a/live/c', '/e/orders', '/e/orders/x/1', '/e/orders/0/-1', '/groups/a/b', '/%', '/dlq/a/letters/x', '/dlq/a/b/c', '/dlq/a/redrives/b/c', '/trace', '/traces/a', '/foreign']
  for (const path of paths) expect(match(path), path).toEqual({ screen: 'nowhere', path })
})

it('keeps a name a name, whatever is in it', () => {
  for (const group of ['a/b', '..', '?x=1', '#', 'ä ö', '100%']) {
    expect(match(href({ screen: 'group', group }))).toEqual({ screen: 'group', group })
  }
})

it('writes the state of a screen into its query, and leaves out what is empty', () => {
  const topic: Route = { screen: 'topic', topic: 'orders', tab: 'messages' }
  expect(href(topic, { from: '@-10m', partition: '', key: undefined })).toBe('/topics/orders?from=%40-10m')
  expect(eventHref('orders', 0, 9007199254740993n)).toBe('/e/orders/0/9007199254740993')
})

it('gives every screen a title', () => {
  for (const [path, route] of ROUTES) expect(title(route).length, path).toBeGreaterThan(3)
  expect(title({ screen: 'groups' })).toBe('Groups')
})
