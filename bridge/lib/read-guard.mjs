/**
 * Owns what a failed read means to a key transaction.
 *
 * Invariant: a transaction in which a read failed stores nothing and does not succeed.
 *
 * Baileys answers libsignal's question for a session with "there is none" when the read failed (`loadSession`:
 * lib/Signal/libsignal.js), and what follows is a new session over the one that could not be read. Absence and
 * failure are two things: here the failure is remembered beside that answer.
 */

import { AsyncLocalStorage } from 'node:async_hooks'

/** Guards a transactional store in place: the socket and its repository share the object. */
export function guardReads(keys) {
  const { get, set, transaction } = keys
  const current = new AsyncLocalStorage()

  const refuse = (failure) => {
    if (failure?.error) throw failure.error
  }

  keys.get = async (type, ids) => {
    try {
      return await get(type, ids)
    } catch (error) {
      const failure = current.getStore()
      if (failure) failure.error ??= error
      throw error
    }
  }
  keys.set = async (data) => {
    refuse(current.getStore())
    return set(data)
  }
  keys.transaction = (work, key) => {
    if (keys.isInTransaction()) return transaction(work, key)
    const failure = {}
    const guarded = async () => {
      const result = await work()
      refuse(failure)
      return result
    }
    return current.run(failure, () => transaction(guarded, key))
  }
}
