/**
 * Owns the host's log: JSON lines on standard error, and what of Baileys' own logging gets into it.
 *
 * Invariant: Baileys' log objects (nodes, keys, payloads) are never written; its texts only while debugging, scrubbed.
 */

import pino from 'pino'
import { scrub } from './errors.mjs'

const LEVELS = { warning: 'warn', critical: 'fatal' }
const BAILEYS_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal']

/** The host's logger at `level` (Python's level names are understood); `info` if none is given. */
export function makeHostLog(level = 'info') {
  const known = LEVELS[level] ?? level
  const isKnown = known === 'silent' || known in pino.levels.values
  return pino({ level: isKnown ? known : 'info', base: undefined }, pino.destination({ dest: 2, sync: true }))
}

/** What Baileys logs to: silent, unless the host debugs; then texts and error messages alone. */
export function makeBaileysLog(log) {
  const enabled = log.isLevelEnabled('debug')
  // Never 'trace' or 'debug': at these levels Baileys renders every stanza for the log.
  const baileys = { level: enabled ? 'info' : 'silent', child: () => baileys }
  for (const level of BAILEYS_LEVELS) baileys[level] = enabled ? relay(log, level) : () => {}
  return baileys
}

function relay(log, level) {
  return (first, text) => {
    const error = first?.error ?? first?.err ?? first?.e
    const said = typeof first === 'string' ? first : (text ?? '')
    log.debug({ baileys: level }, scrub(error?.message ? `${said}: ${error.message}` : said))
  }
}
