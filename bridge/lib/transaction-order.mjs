/**
 * Owns the order of a socket's key transactions: one at a time.
 *
 * Invariant: from the begin of an outermost transaction until its commit no other one of the same socket runs.
 *
 * Baileys locks sending by account and receiving by contact (`relayMessage`: lib/Socket/messages-send.js,
 * `decryptMessage`: lib/Signal/libsignal.js), so one of each may read the same session, and the later commit takes
 * back the ratchet step of the earlier: the receiver then finds a counter used twice and drops messages in silence.
 * The lock is taken before any other: libsignal queues work by address, and taking it within would deadlock.
 */

import { makeLibSignalRepository } from 'baileys/lib/Signal/libsignal.js'

/** Baileys' own repository over ordered keys; an option of `makeWASocket`. */
export function makeOrderedSignalRepository(auth, logger, pnToLid) {
  orderTransactions(auth.keys)
  return makeLibSignalRepository(auth, logger, pnToLid)
}

/** Orders the transactions of a store in place: the socket and its repository share the object. */
export function orderTransactions(keys) {
  const { transaction } = keys
  let tail = Promise.resolve()
  keys.transaction = (work, key) => {
    if (keys.isInTransaction()) return transaction(work, key)
    const turn = tail.then(() => transaction(work, key))
    tail = turn.then(
      () => {},
      () => {},
    )
    return turn
  }
}
