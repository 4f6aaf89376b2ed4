/**
 * Owns what was decrypted and not yet handed over.
 *
 * Invariant: a plaintext is stored in the very transaction that steps its ratchet, so a message whose step is
 * durable can be handed over when the server delivers it again, also by the next process.
 *
 * One key holds all of them. Messages are handled one after the other, so it is one message as a rule, which the
 * next one replaces; when no next one comes, it is deleted: what people write does not belong into an auth state.
 */

import { createHash } from 'node:crypto'
import { StandfastError } from './errors.mjs'

const TYPE = 'standfast-inbox'
const ID = 'untaken'
const LIMIT = 50
/** The server delivers again what it has no receipt for as soon as a client logs in. */
const LIFETIME_MS = 600_000
const IDLE_MS = 2_000

export class Untaken {
  #entries = new Map()
  #keys = null
  #loading = null
  #idle = null
  #isStored = false

  /** A new socket: from now on, undelivered messages come again. `keys` is its store with transactions. */
  attach(keys) {
    this.#keys = keys
    const now = Date.now()
    for (const entry of this.#entries.values()) entry.at = now
  }

  /** The message's plaintext: the kept one, or that of `decrypt`, which runs in a transaction under `lock`. */
  async open(messageId, ciphertext, lock, decrypt) {
    const keys = this.#keys
    this.#loading ??= this.#load(keys)
    await this.#loading
    const name = createHash('sha256').update(messageId).update('\0').update(ciphertext).digest('base64')
    const known = this.#entries.get(name)
    if (known) return known.plaintext
    const plaintext = await this.#step(keys, lock, async () => {
      const decrypted = await decrypt()
      await keys.set({ [TYPE]: { [ID]: { ...this.#copies(), [name]: { messageId, plaintext: decrypted } } } })
      return decrypted
    })
    this.#isStored = true
    this.#remember(name, { messageId, plaintext, at: Date.now() })
    return plaintext
  }

  /** The message was handed over, or carries nothing to hand over. */
  taken(messageId) {
    for (const [name, entry] of this.#entries) if (entry.messageId === messageId) this.#entries.delete(name)
    clearTimeout(this.#idle)
    this.#idle = setTimeout(() => this.clear().catch(() => {}), IDLE_MS).unref()
  }

  /** Deletes the stored copy where nothing waits to be handed over. */
  async clear() {
    clearTimeout(this.#idle)
    if (!this.#isStored || this.#entries.size > 0) return
    this.#isStored = false
    await this.#keys.set({ [TYPE]: { [ID]: null } })
  }

  async #step(keys, lock, work) {
    try {
      return await keys.transaction(work, lock)
    } catch (error) {
      // A commit whose answer was lost may have been applied: then the plaintext is stored, and its ratchet stepped.
      if (error instanceof StandfastError) this.#loading = null
      throw error
    }
  }

  async #load(keys) {
    try {
      const { [ID]: stored } = await keys.get(TYPE, [ID])
      this.#isStored = stored !== undefined
      const now = Date.now()
      for (const [name, { messageId, plaintext }] of Object.entries(stored ?? {})) {
        this.#remember(name, { messageId, plaintext, at: now })
      }
    } catch (error) {
      this.#loading = null
      throw error
    }
  }

  #remember(name, entry) {
    this.#entries.set(name, entry)
    const oldest = Date.now() - LIFETIME_MS
    for (const [key, { at }] of this.#entries) {
      if (at < oldest || this.#entries.size > LIMIT) this.#entries.delete(key)
    }
  }

  #copies() {
    const pairs = [...this.#entries].map(([name, { messageId, plaintext }]) => [name, { messageId, plaintext }])
    return Object.fromEntries(pairs)
  }
}
