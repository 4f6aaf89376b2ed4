/**
 * Owns a mend of libsignal: a session must not grow with every change of turn.
 *
 * Invariant: what is dropped can decrypt nothing any more: a receiving chain that is closed and has no message key left.
 *
 * When the other side has answered, it sends on a new chain; libsignal closes the old one and keeps it for ever
 * (`maybeStepRatchet`: libsignal, src/session_cipher.js), 105 bytes a turn, so that with a contact of long standing every
 * message writes 100 KB. Such a chain only serves to refuse a second delivery; without it that is refused for its MAC,
 * with the same error from `decryptWithSessions`. Signal's own library keeps five chains, spent or not.
 */

import { createRequire } from 'node:module'

/** The newest, as far as the store keeps their order: PostgreSQL sorts them. */
export const SPENT_CHAINS_KEPT = 5

/** The copy that Baileys itself uses; another one would be left unmended or mended in vain. */
const { SessionCipher } = createRequire(createRequire(import.meta.url).resolve('baileys'))('libsignal')
const { prototype } = SessionCipher
const storeAsItIs = prototype.storeRecord

/** Stores sessions without what is spent, in this process. Doing it again changes nothing. */
export function dropSpentChains() {
  prototype.storeRecord = storeWithoutSpent
}

async function storeWithoutSpent(record) {
  for (const session of Object.values(record.sessions)) drop(session)
  return storeAsItIs.call(this, record)
}

function drop({ _chains: chains }) {
  const names = Object.keys(chains)
  if (names.length <= SPENT_CHAINS_KEPT) return
  const spent = names.filter((name) => isSpent(chains[name]))
  for (const name of spent.slice(0, -SPENT_CHAINS_KEPT)) delete chains[name]
}

/** The chain that is received on and the one that is sent on have a key. */
function isSpent({ chainKey, messageKeys }) {
  return chainKey.key === undefined && Object.keys(messageKeys).length === 0
}
