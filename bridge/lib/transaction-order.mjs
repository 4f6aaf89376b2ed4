/**
 * Owns the order of a socket's key transactions: one at a time.
 *
 * Invariant: from the begin of an ordered transaction until its commit no other ordered one of the same socket runs.
 *
 * Baileys locks sending by account and receiving by contact (`relayMessage`: lib/Socket/messages-send.js,
 * `decryptMessage`: lib/Signal/libsignal.js), so one of each may read the same session, and the later commit takes
 * back the ratchet step of the earlier: the receiver then finds a counter used twice and drops messages in silence.
 * The lock is taken before any other: libsignal queues work by address, and taking it within would deadlock.
 */

/**
 * Transactions that Baileys begins while it holds something that a running one may wait for, so they must not wait
 * themselves. `lid-mapping`: a lookup under way is shared by all who ask (`inflightLIDLookups`: lib/Signal/lid-mapping.js).
 * `delete-…-sessions`: begun under `devicesMutex` (lib/Socket/messages-recv.js), which `relayMessage` takes too.
 */
const UNORDERED = /^(lid-mapping|delete-\d+-sessions)$/

/** Orders the transactions of a store in place: the socket and its repository share the object. */
export function orderTransactions(keys) {
  const { transaction } = keys
  let tail = Promise.resolve()
  keys.transaction = (work, key) => {
    if (keys.isInTransaction() || UNORDERED.test(key)) return transaction(work, key)
    const turn = tail.then(() => transaction(work, key))
    tail = turn.then(
      () => {},
      () => {},
    )
    return turn
  }
}
