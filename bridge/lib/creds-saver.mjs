/**
 * Owns the saving of one company's creds: one save at a time, the last state wins.
 *
 * Invariant: `save()` resolves only when a save that includes the state at the time of the call is durable.
 */

import { encodeValue } from './values.mjs'

const RETRY_DELAY_MS = 1_000

export class CredsSaver {
  #creds
  #store
  #stored
  #waiting = []
  #running = null
  #retryTimer = null
  #stopped = false

  /**
   * @param {object} creds the live object that Baileys changes in place
   * @param {(credsJson: string) => Promise<void>} store resolves when durable
   * @param {string | null} stored the JSON that is known to be durable, if any
   */
  constructor(creds, store, stored = null) {
    this.#creds = creds
    this.#store = store
    this.#stored = stored
  }

  save() {
    clearTimeout(this.#retryTimer)
    const saved = new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
    })
    this.#running ??= this.#run()
    return saved
  }

  /** No more attempts by itself; a save under way goes on. */
  stop() {
    clearTimeout(this.#retryTimer)
    this.#stopped = true
  }

  async #run() {
    // Callers of one turn of the event loop share one save: Baileys emits creds.update in bursts.
    await null
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0)
      try {
        await this.#saveOnce()
        for (const { resolve } of batch) resolve()
      } catch (error) {
        for (const { reject } of batch) reject(error)
        if (error.retryable && !this.#stopped) this.#retryLater()
      }
    }
    this.#running = null
  }

  /** Baileys may not change the creds again for hours; a state that could not be saved is not left at that. */
  #retryLater() {
    clearTimeout(this.#retryTimer)
    this.#retryTimer = setTimeout(() => this.save().catch(() => {}), RETRY_DELAY_MS).unref()
  }

  async #saveOnce() {
    const json = encodeValue(this.#creds)
    if (json === this.#stored) return
    // In doubt from here until the answer: an identical state must be written again after a failure.
    this.#stored = null
    await this.#store(json)
    this.#stored = json
  }
}
