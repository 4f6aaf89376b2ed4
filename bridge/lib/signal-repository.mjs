/**
 * Owns how a socket's Signal sessions are changed: stored ahead of what they encrypt, one transaction at a time.
 *
 * Invariant: no ciphertext leaves before the ratchet step that made it is durable, and a message of which one step
 * could not be stored does not leave at all.
 *
 * Baileys commits a sending transaction after the message has left (`relayMessage`: lib/Socket/messages-send.js).
 * If that commit is lost, the next message repeats a counter, and receivers drop it in silence. What is written ahead
 * here without a message following it only skips a counter, which every receiver allows for.
 */

import { makeLibSignalRepository } from 'baileys/lib/Signal/libsignal.js'
import { adoptStorage, Context } from './context.mjs'
import { holdReceiving } from './receive-hold.mjs'
import { dropSpentChains } from './session-chains.mjs'
import { tryOnCopies } from './session-trial.mjs'
import { leaveEnded } from './transaction-end.mjs'
import { patiently, TransactionGuard } from './transaction-guard.mjs'
import { orderTransactions } from './transaction-order.mjs'

/** What encrypting advances; the rest of a transaction may be committed after the message. */
const RATCHETS = ['session', 'sender-key']

/**
 * For `makeWASocket`: `keys` for its option `auth`, and its option `makeSignalRepository`. Both are needed.
 * @param store the company's keys without transactions
 * @param {(repository: object, keys: object) => object} [remembering] what else is put round the repository
 */
export function signalStoreOver(store, remembering = (repository) => repository) {
  const guard = new TransactionGuard()
  const makeSignalRepository = (auth, logger, pnToLid) => {
    tryOnCopies()
    dropSpentChains()
    adoptStorage(() => auth.keys.isInTransaction())
    const ahead = new Context()
    orderTransactions(auth.keys)
    guard.watch(auth.keys)
    writeAhead(auth.keys, store, ahead, guard)
    const leaving = leaveEnded(auth.keys)
    const encrypting = (work) => leaving(() => ahead.run(true, work))
    const repository = makeLibSignalRepository(auth, logger, pnToLid)
    const { encryptMessage, encryptGroupMessage } = repository
    Object.assign(repository, {
      encryptMessage: (call) => encrypting(() => encryptMessage.call(repository, call)),
      encryptGroupMessage: (call) => encrypting(() => encryptGroupMessage.call(repository, call)),
    })
    return holdReceiving(remembering(repository, auth.keys), auth.keys)
  }
  return { keys: { ...store, set: guard.committing((data) => store.set(data)) }, makeSignalRepository }
}

/** Only the option `makeSignalRepository`; a commit that fails is then repeated as Baileys does it. */
export function signalRepositoryOver(store) {
  return signalStoreOver(store).makeSignalRepository
}

/** While encrypting, ratchets are stored at once and not only with the transaction that they belong to. */
function writeAhead(keys, store, ahead, guard) {
  const { set } = keys
  keys.set = async (data) => {
    await set(data)
    if (!ahead.getStore() || !keys.isInTransaction()) return
    const ratchets = {}
    for (const type of RATCHETS) if (data[type]) ratchets[type] = data[type]
    if (Object.keys(ratchets).length > 0) await guard.noting(() => patiently(() => store.set(ratchets)))
  }
}
