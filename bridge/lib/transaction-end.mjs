/**
 * Owns what outlives the key transaction that it was begun in.
 *
 * Invariant: after the end of a transaction nothing reads from it or writes to it any more; what still goes on in its
 * asynchronous context stands outside of any transaction.
 *
 * Baileys begins work in a transaction that it does not wait for (`relayMessage` issues a token to the contact:
 * lib/Socket/messages-send.js). Its writes would go into mutations that are committed already, and be lost: the token
 * is then issued again with every message, and the slower the store, the surer.
 */

import { AsyncLocalStorage } from 'node:async_hooks'
import { Context } from './context.mjs'

/**
 * Changes a store in place, over everything else that is put round it: leaving a transaction leaves all contexts.
 * @returns {<T>(call: () => T) => T} calls, outside of the transaction that has ended, if one has
 */
export function leaveEnded(keys) {
  const { get, set, transaction, isInTransaction } = keys
  const outside = AsyncLocalStorage.snapshot()
  const current = new Context()
  const hasEnded = () => current.getStore()?.ended === true
  const leaving = (call) => (hasEnded() ? outside(call) : call())
  keys.isInTransaction = () => isInTransaction() && !hasEnded()
  keys.get = (type, ids) => leaving(() => get(type, ids))
  keys.set = (data) => leaving(() => set(data))
  keys.transaction = (work, key) => {
    if (keys.isInTransaction()) return transaction(work, key)
    return leaving(() => transaction(() => untilEnded(current, work), key))
  }
  return leaving
}

async function untilEnded(current, work) {
  const scope = { ended: false }
  try {
    return await current.run(scope, work)
  } finally {
    scope.ended = true
  }
}
