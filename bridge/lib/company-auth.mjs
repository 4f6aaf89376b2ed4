/**
 * Owns one company's auth state on a channel to the gateway, in the form that Baileys takes.
 *
 * Invariant: new creds are minted only after the gateway confirmed that there are none and a pairing was asked for.
 * A failure to read rejects; it never becomes fresh creds or a missing key.
 */

import { initAuthCreds } from 'baileys'
import { CredsSaver } from './creds-saver.mjs'
import { StandfastError } from './errors.mjs'
import { KeyMirror } from './key-mirror.mjs'
import { encodeValue, reviveBuffers } from './values.mjs'

const COMPANY = /^[A-Za-z0-9_-]{1,50}$/

/** Throws `usage` for what cannot be a company id. */
export function requireCompany(company) {
  if (typeof company === 'string' && COMPANY.test(company)) return company
  throw new StandfastError('usage', 'a company id has 1 to 50 letters, digits, "_" or "-"')
}

/**
 * Opens the company; resolves to its CompanyAuth.
 * @param {{ call: (method: string, paramsJson: string) => Promise<unknown> }} channel
 */
export async function openCompanyAuth(channel, { company, pair = false }) {
  requireCompany(company)
  const opened = await channel.call('auth.open', JSON.stringify({ company, pair, client: channel.client }))
  return new CompanyAuth(channel, company, credsOf(opened, pair))
}

/** The raw creds of an `auth.open` answer, or null where absence is confirmed and a pairing may mint new ones. */
export function credsOf(opened, pair) {
  const creds = opened?.creds
  if (creds === null && pair) return null
  if (creds && typeof creds === 'object' && creds.signedIdentityKey && creds.noiseKey) return creds
  throw new StandfastError('auth_state_corrupt', 'the gateway answered auth.open with something that is not creds')
}

/** What tells one WhatsApp identity from another, as comparable text; takes raw or revived creds. */
export function identityOf(creds) {
  const { noiseKey, signedIdentityKey, registrationId } = creds
  return encodeValue([noiseKey?.public, signedIdentityKey?.public, registrationId])
}

export class CompanyAuth {
  #channel
  #company
  #saver
  #mirror
  /** Why nothing is served any more. */
  #ended = null
  #writes = new Set()

  constructor(channel, company, rawCreds) {
    this.#channel = channel
    this.#company = JSON.stringify(company)
    this.created = rawCreds !== null
    this.creds = rawCreds ? reviveBuffers(rawCreds) : initAuthCreds()
    const stored = rawCreds ? encodeValue(this.creds) : null
    this.#saver = new CredsSaver(this.creds, (json) => this.#storeCreds(json), stored)
    this.#mirror = new KeyMirror({
      fetch: (type, ids) => this.#call('keys.get', `"type":${JSON.stringify(type)},"ids":${JSON.stringify(ids)}`),
      store: (dataJson) => this.#call('keys.set', `"data":${dataJson}`),
      clear: () => this.#call('keys.clear'),
    })
    this.keys = {
      // Looked at again after the answer: one that crosses the loss of the company is no longer true.
      get: async (type, ids) => this.#open(await this.#mirror.get(type, this.#open(ids))),
      set: (data) => this.#tracked(async () => this.#mirror.set(this.#open(data))),
      clear: () => this.#tracked(async () => this.#mirror.clear(this.#open())),
    }
  }

  /** Resolves when the creds as they are now are durable. Bots hang this on an event, where nobody awaits it. */
  saveCreds() {
    const saved = this.#tracked(async () => this.#open(this.#saver).save())
    saved.catch((error) => this.#channel.logger?.error({ code: error.code }, `creds not saved: ${error.message}`))
    return saved
  }

  /** Forgets copied keys, after a time in which the company was not held. */
  reset() {
    this.#mirror.reset()
  }

  /** Resolves when every write begun so far, and those that these give rise to, are settled. */
  async flush() {
    do {
      await Promise.allSettled(this.#writes)
      await new Promise(setImmediate)
    } while (this.#writes.size > 0)
  }

  /** Waits for writes, then refuses further use and gives the company back. Rejects only if giving back failed. */
  async close() {
    if (this.#ended) return
    await this.flush()
    if (this.#ended) return
    this.abandon()
    await this.#call('auth.close')
  }

  /** Refuses further use at once with `reason`, without a word to the gateway. The first reason stays. */
  abandon(reason = new StandfastError('session_not_open', 'this auth state is closed', { retryable: false })) {
    this.#ended ??= reason
    this.#saver.stop()
    this.#mirror.reset()
  }

  async #storeCreds(json) {
    await this.#call(this.created ? 'creds.save' : 'creds.create', `"creds":${json}`)
    this.created = true
  }

  #call(method, fields = '') {
    return this.#channel.call(method, `{"company":${this.#company}${fields && ','}${fields}}`)
  }

  #open(value) {
    if (!this.#ended) return value
    throw this.#ended
  }

  async #tracked(write) {
    const done = write()
    this.#writes.add(done)
    try {
      return await done
    } finally {
      this.#writes.delete(done)
    }
  }
}
