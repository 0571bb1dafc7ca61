// Dead letters in words and as commands.

import { part } from './api/client'
import type { CloseAction, Failure, Letter, LetterState, NotOperable, ParkedDiscarded, Redrive, RedriveResult, Which, WhichParked, WholeLetter } from './api/dead-letters'
import { plural } from './format'
import type { Int } from './json'
import { command } from './shell'
import type { StatusKind } from '../ui/Status.svelte'

/** The API's path of a service's dead letters. */
export function lettersPath(service: string): string {
  return `/dead-letters/${part(service)}`
}

const STATES: Record<LetterState, readonly [StatusKind, string]> = {
  dead: ['fail', 'Dead'],
  redriving: ['busy', 'Redriving'],
  redriven: ['ok', 'Redriven'],
  discarded: ['unknown', 'Discarded'],
  archived: ['unknown', 'Archived'],
}

export function letterState(state: LetterState): readonly [StatusKind, string] {
  return STATES[state] ?? ['unknown', state]
}

const RESULTS: Record<RedriveResult['result'], readonly [StatusKind, string]> = {
  pending: ['unknown', 'Waits'],
  delivering: ['busy', 'On its way'],
  handled: ['ok', 'Handled'],
  failed: ['fail', 'Failed again'],
  cancelled: ['warn', 'Cancelled'],
}

export function resultState(result: RedriveResult['result']): readonly [StatusKind, string] {
  return RESULTS[result] ?? ['unknown', result]
}

const REASONS: Record<Letter['reason'], string> = {
  exhausted: 'every attempt failed',
  undecodable: 'its bytes could not be read as the event that it is',
  refused: 'the handler refused it',
}

export function reasonOf(reason: Letter['reason']): string {
  return REASONS[reason] ?? reason
}

const CANNOT: Record<NotOperable, string> = {
  no_key:
    'This server has no key of the service, so it cannot ask it. Put the key into the file that the setting api.service-key-file (--api-service-key-file) names.',
  takes_no_requests: 'The service takes no requests: its App was built without .operations(key).',
  silent: 'No instance of the service has been heard of lately. A request is answered when one runs.',
}

/** Why a service cannot be asked. */
export function cannot(why: NotOperable | null): string {
  return why === null ? 'The service cannot be asked.' : (CANNOT[why] ?? why)
}

/** What a redrive has made of its letters, the worst first. */
export function summary(redrive: Redrive): string {
  const parts: [Redrive['failed'], string][] = [
    [redrive.failed, 'failed again'],
    [redrive.handled, 'handled'],
    [redrive.delivering, 'on their way'],
    [redrive.pending, 'wait'],
    [redrive.cancelled, 'cancelled'],
  ]
  const said = parts.filter(([many]) => Number(many) > 0).map(([many, word]) => `${many} ${word}`)
  return `${plural(redrive.letters, 'letter')}${said.length > 0 ? `: ${said.join(', ')}` : ''}`
}

/** How much of a redrive is over, from 0 to 1. */
export function shareOver(redrive: Redrive): number {
  const all = Number(redrive.letters)
  const left = Number(redrive.pending) + Number(redrive.delivering)
  return all === 0 ? 1 : Math.max(0, Math.min(1, (all - left) / all))
}

/** Which letters are meant, for a sentence. */
export function meant(which: Which): string {
  if (which.letters?.length === 1) return `letter ${which.letters[0]}`
  if (which.letters) return plural(which.letters.length, 'letter')
  return which.group ? `the letters of the failure ${which.group}` : 'all letters'
}

/** What waits behind a letter. null: nothing waits for it, or its key is not known as a whole text. */
export function behind({ letter, record }: WholeLetter): WhichParked | null {
  const { consumer, generation, topic, partition } = letter
  if (!letter.blocks_key || record === null || record.key === null || record.key_encoding || record.key_truncated) return null
  return { consumer, generation, topic, partition, key: record.key }
}

/** What is to be known of parked events besides how many are given up. */
export function besides({ dry_run, letters, has_more }: ParkedDiscarded): string[] {
  const stay = Number(letters) === 1 ? 'stays, and newer events wait behind it' : 'stay, and newer events wait behind them'
  return [
    ...(Number(letters) > 0 ? [`${plural(letters, 'dead letter')} of the key ${stay}: decide about that afterwards.`] : []),
    ...(has_more ? [dry_run ? 'There may be more of them.' : 'There may be more of them: ask again for the rest.'] : []),
  ]
}

/** So many are given up and no more, where all of them were counted. */
export function atMost({ count, has_more }: ParkedDiscarded): { at_most?: Int } {
  return has_more ? {} : { at_most: count }
}

/** How the command line reaches a service: the broker's port is the usual one, and the key is a file's. */
function through(service: string, hasKey: boolean): string[] {
  const engine = ['--engine', `courant://${location.hostname}:9092`, '--service', service]
  return hasKey ? [...engine, '--key-file', `${service}.key`] : engine
}

function whichWords(which: Which): string[] {
  if (which.letters) return which.letters.map(String)
  const words = [...(which.consumer ? ['--consumer', which.consumer] : []), ...(which.group ? ['--group', which.group] : [])]
  return words.length > 0 ? words : ['--all']
}

export function listCli(failure?: Failure): string {
  return failure ? command('courant', 'dlq', 'list', ...through(failure.service, false)) : command('courant', 'services')
}

export function redriveCli(service: string, which: Which, rate: number | null, isDry: boolean): string {
  const at = rate === null ? [] : ['--rate', String(rate)]
  return command('courant', 'dlq', 'redrive', ...whichWords(which), ...at, ...(isDry ? ['--dry-run'] : []), ...through(service, true))
}

export function closeCli(action: CloseAction, service: string, which: Which, reason: string, isDry: boolean): string {
  const dry = isDry ? ['--dry-run'] : []
  return command('courant', 'dlq', action, ...whichWords(which), '--reason', reason || 'why', ...dry, ...through(service, true))
}

export function parkedCli(service: string, { consumer, generation, topic, partition, key }: WhichParked, reason: string): string {
  const of = ['--consumer', consumer, ...(generation === 1 ? [] : ['--generation', String(generation)]), '--topic', topic, '--partition', String(partition)]
  // In one word: a key may begin with a dash.
  return command('courant', 'dlq', 'discard-parked', ...of, `--key=${key}`, '--reason', reason || 'why', '--yes', ...through(service, true))
}

/** `words` are what changes. The letter's number stands first, so that a value may stand last. */
export function editCli(service: string, letter: string, words: readonly string[]): string {
  return command('courant', 'dlq', 'edit', letter, ...through(service, true), ...words)
}

export function statusCli(service: string, id: string): string {
  return command('courant', 'dlq', 'redrive', '--status', id, '--events', ...through(service, true))
}
