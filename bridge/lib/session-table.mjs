/**
 * Owns which sessions this host holds and answers the service's requests about them.
 *
 * Invariant: a company has at most one socket; a new generation begins after the older one has ended, and an older
 * one never comes back.
 */

import { Arrival } from './arrival.mjs'
import { requireCompany } from './company-auth.mjs'
import { settledWithin } from './deadline.mjs'
import { StandfastError } from './errors.mjs'
import { HostSession } from './host-session.mjs'
import { SentMessages } from './sent-messages.mjs'

const STOP_TIMEOUT_MS = 8_000
const PHONE = /^[1-9]\d{6,14}$/

export class SessionTable {
  #shared
  #sessions = new Map()
  #newest = new Map()
  #lasting = new Map()

  /** @param shared what every session gets: see HostSession */
  constructor(shared) {
    this.#shared = shared
  }

  /** Begins a session; resolves to null when its socket is being made, after an older generation has ended. */
  async start({ company, generation, pair = null }) {
    requireCompany(company)
    requireGeneration(generation)
    requirePairing(pair)
    if (generation <= (this.#newest.get(company) ?? 0)) throw superseded(company, generation)
    const former = this.#newest.get(company) ?? 0
    this.#newest.set(company, generation)
    await this.#sessions.get(company)?.stop()
    if (this.#newest.get(company) !== generation) throw superseded(company, generation)
    // Another host may have had the company in between: what is remembered here is older than what that one did.
    if (generation !== former + 1) this.#lasting.delete(company)
    const session = new HostSession({ company, generation, pair }, { ...this.#shared, ...this.#lastingOf(company) })
    this.#sessions.set(company, session)
    void session.ended.then(() => {
      if (this.#sessions.get(company) === session) this.#sessions.delete(company)
    })
    session.start()
    return null
  }

  async stop(params) {
    await this.#held(params).stop()
    return null
  }

  async logout(params) {
    await this.#held(params).logout()
    return null
  }

  send(params) {
    return this.#held(params).send(params)
  }

  /** A session's answer to what is asked about its chats. */
  chat(method, params) {
    return this.#held(params).chat(method, params)
  }

  preKeys(params) {
    return this.#held(params).preKeys()
  }

  stats(pingIdleMs) {
    return [...this.#sessions.values()].map((session) => session.stats(pingIdleMs))
  }

  /** Another owner has the company; what is remembered of it here may be older than what that one does. */
  lost(company, error) {
    this.#sessions.get(company)?.lost(error)
    this.#lasting.delete(company)
  }

  /** Ends every session in order, within a deadline. */
  async stopAll() {
    await settledWithin(
      STOP_TIMEOUT_MS,
      Promise.allSettled([...this.#sessions.values()].map((session) => session.stop())),
    )
  }

  /** Ends every session at once, writing nothing more. */
  abandonAll() {
    for (const session of this.#sessions.values()) session.abandon()
    this.#sessions.clear()
  }

  #held({ company, generation }) {
    const session = this.#sessions.get(company)
    if (session?.generation === generation) return session
    throw superseded(company, generation)
  }

  /** What a company keeps from one socket to the next. */
  #lastingOf(company) {
    if (!this.#lasting.has(company)) {
      this.#lasting.set(company, { sent: new SentMessages(), arrival: new Arrival() })
    }
    return this.#lasting.get(company)
  }
}

function superseded(company, generation) {
  const named = `generation ${Number(generation)} of company ${requireCompany(company)}`
  return new StandfastError('session_not_open', `this host does not hold ${named}`)
}

function requireGeneration(generation) {
  if (Number.isSafeInteger(generation) && generation > 0) return
  throw new StandfastError('usage', 'generation must be a whole number above 0')
}

function requirePairing(pair) {
  if (pair === null || pair?.by === 'qr') return
  if (pair?.by !== 'code')
    throw new StandfastError('usage', 'pair must be null, {"by": "qr"} or {"by": "code", "phone"}')
  if (typeof pair.phone === 'string' && PHONE.test(pair.phone)) return
  throw new StandfastError('usage', 'phone must be 7 to 15 digits with the country code and no "+"')
}
