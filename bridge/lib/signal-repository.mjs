/**
 * Owns how a socket's Signal sessions are changed: stored ahead of what they encrypt, one transaction at a time.
 *
 * Invariant: no ciphertext leaves before the ratchet step that made it is durable.
 *
 * Baileys commits a sending transaction after the message has left (`relayMessage`: lib/Socket/messages-send.js).
 * If that commit is lost, the next message repeats a counter, and receivers drop it in silence. What is written ahead
 * here without a message following it only skips a counter, which every receiver allows for.
 */

import { AsyncLocalStorage } from 'node:async_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { makeLibSignalRepository } from 'baileys/lib/Signal/libsignal.js'
import { guardReads } from './read-guard.mjs'
import { tryOnCopies } from './session-trial.mjs'
import { orderTransactions } from './transaction-order.mjs'

/** What encrypting advances; the rest of a transaction may be committed after the message. */
const RATCHETS = ['session', 'sender-key']
const RETRY_FOR_MS = 10_000
const RETRY_DELAY_MS = 500

/** For the option `makeSignalRepository` of `makeWASocket`; `store` is what the socket's `auth.keys` stores to. */
export function signalRepositoryOver(store) {
  return (auth, logger, pnToLid) => {
    tryOnCopies()
    const ahead = new AsyncLocalStorage()
    orderTransactions(auth.keys)
    guardReads(auth.keys)
    writeAhead(auth.keys, store, ahead)
    const repository = makeLibSignalRepository(auth, logger, pnToLid)
    const { encryptMessage, encryptGroupMessage } = repository
    return Object.assign(repository, {
      encryptMessage: (call) => ahead.run(true, () => encryptMessage.call(repository, call)),
      encryptGroupMessage: (call) => ahead.run(true, () => encryptGroupMessage.call(repository, call)),
    })
  }
}

/** While encrypting, ratchets are stored at once and not only with the transaction that they belong to. */
function writeAhead(keys, store, ahead) {
  const { set } = keys
  keys.set = async (data) => {
    await set(data)
    if (!ahead.getStore() || !keys.isInTransaction()) return
    const ratchets = {}
    for (const type of RATCHETS) if (data[type]) ratchets[type] = data[type]
    if (Object.keys(ratchets).length > 0) await persist(store, ratchets)
  }
}

/** Baileys would drop the receiver's device from the message at the first failure; a short outage is waited for. */
async function persist(store, ratchets) {
  const deadline = Date.now() + RETRY_FOR_MS
  for (;;) {
    try {
      return await store.set(ratchets)
    } catch (error) {
      if (!error.retryable || Date.now() > deadline) throw error
    }
    await sleep(RETRY_DELAY_MS)
  }
}
