/**
 * Owns what a failure of the store means to a key transaction.
 *
 * Invariant: a transaction in which a read or a write failed reads, stores and encrypts nothing more, and rejects
 * with the first failure.
 *
 * Baileys answers libsignal's question for a session with "there is none" when the read failed (`loadSession`:
 * lib/Signal/libsignal.js), and what follows is a new session over the one that could not be read. A device for which
 * encryption failed is left out, and the message leaves for the others (`createParticipantNodes`:
 * lib/Socket/messages-send.js); between that and the leaving there is always a key to be read or set, and it stops here.
 * A commit that fails is repeated for half a minute under the lock that every other transaction waits for; here it is
 * repeated for as long as it can help, and then the transaction ends.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { Context } from './context.mjs'
import { StandfastError } from './errors.mjs'

const RETRY_FOR_MS = 10_000
const RETRY_DELAY_MS = 500
/** A full disk does not empty within seconds, and whoever sends is to hear of it at once. */
const NOT_WAITED_FOR = 'journal_unwritable'

/** The work of a transaction was done, a message of it has left perhaps, and its commit failed. */
export class CommitError extends StandfastError {
  constructor(cause) {
    const { code = 'internal', message, nextStep, retryable = false, facts } = cause
    super(code, message, { nextStep, retryable, facts, cause })
  }
}

export class TransactionGuard {
  #current = new Context()

  /** Watches a transactional store in place: the socket and its repository share the object. */
  watch(keys) {
    const { get, set, transaction } = keys
    keys.get = async (type, ids) => {
      this.#refuse()
      return this.noting(() => get(type, ids))
    }
    keys.set = async (data) => {
      this.#refuse()
      return set(data)
    }
    keys.transaction = (work, key) => {
      if (keys.isInTransaction()) return transaction(work, key)
      return this.#run((guarded) => transaction(guarded, key), work)
    }
  }

  /** The outcome of `access`; its failure is one of the running transaction too, whoever catches it. */
  async noting(access) {
    try {
      return await access()
    } catch (error) {
      const running = this.#current.getStore()
      if (running) running.failure ??= error
      throw error
    }
  }

  /** For the store below the transactions: `set` as Baileys' commit is to see it. */
  committing(set) {
    return async (data) => {
      const running = this.#current.getStore()
      if (!running?.isDone) return set(data)
      try {
        await patiently(() => set(data))
      } catch (error) {
        // Not thrown, or Baileys would begin its own repetitions; `#run` rejects in its place.
        running.failure = new CommitError(error)
      }
    }
  }

  #refuse() {
    const failure = this.#current.getStore()?.failure
    if (failure) throw failure
  }

  #run(transaction, work) {
    const running = { failure: null, isDone: false }
    const outcome = async () => {
      const result = await transaction(() => this.#work(running, work))
      this.#refuse()
      return result
    }
    return this.#current.run(running, outcome)
  }

  async #work(running, work) {
    try {
      const result = await work()
      this.#refuse()
      running.isDone = true
      return result
    } catch (error) {
      // Baileys names what it could not do; that the store failed is why.
      throw running.failure ?? error
    }
  }
}

/** The outcome of `write`, repeated over a short outage; what will not pass by itself rejects at once. */
export async function patiently(write) {
  const deadline = Date.now() + RETRY_FOR_MS
  for (;;) {
    try {
      return await write()
    } catch (error) {
      if (!error.retryable || error.code === NOT_WAITED_FOR || Date.now() > deadline) throw error
    }
    await sleep(RETRY_DELAY_MS)
  }
}
