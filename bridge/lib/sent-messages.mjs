/**
 * Owns the last messages that a company sent, to answer a receiver who asks for one again.
 *
 * Invariant: at most `limit` messages are kept, the latest ones; they outlive a socket, not the process.
 */

const LIMIT = 1_000

export class SentMessages {
  #messages = new Map()
  #limit

  constructor(limit = LIMIT) {
    this.#limit = limit
  }

  put(id, message) {
    this.#messages.delete(id)
    this.#messages.set(id, message)
    if (this.#messages.size > this.#limit) this.#messages.delete(this.#messages.keys().next().value)
  }

  /** The message content; undefined where it is not (or no longer) known. */
  get(id) {
    return this.#messages.get(id)
  }

  has(id) {
    return this.#messages.has(id)
  }
}
