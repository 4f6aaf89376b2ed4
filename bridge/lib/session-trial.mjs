/**
 * Owns a mend of libsignal: finding the session that a message belongs to must not change the others.
 *
 * Invariant: a session that cannot decrypt a message is stored as it was before the attempt.
 *
 * `decryptWithSessions` (libsignal, src/session_cipher.js) tries one session after the other and steps the ratchet of
 * each before it checks the MAC. Where two sides have begun a session at the same time, both hold two, every message
 * is first tried on a wrong one, and that one is stored spoiled with the next success: "Bad MAC" from then on. Seen:
 * 10 of 40 first messages undecryptable without this, none with it.
 */

import { createRequire } from 'node:module'

/** The copy that Baileys itself uses; another one would be left unmended or mended in vain. */
const { SessionCipher } = createRequire(createRequire(import.meta.url).resolve('baileys'))('libsignal')
const { prototype } = SessionCipher
const onOriginals = prototype.decryptWithSessions

/** Tries sessions on copies, in this process. Doing it again changes nothing. */
export function tryOnCopies() {
  prototype.decryptWithSessions = onCopies
}

async function onCopies(message, sessions) {
  // A single session that fails fails the whole decryption, and nothing is stored.
  if (sessions.length < 2) return onOriginals.call(this, message, sessions)
  for (const session of sessions) {
    const plaintext = await attempt(this, message, session)
    if (plaintext) return { session, plaintext }
  }
  // None fits: libsignal's own way reports it, and its caller stores nothing then.
  return onOriginals.call(this, message, sessions)
}

/** The plaintext, with the session stepped; null and the session untouched where it does not fit. */
async function attempt(cipher, message, session) {
  const copy = session.constructor.deserialize(session.serialize())
  try {
    const plaintext = await cipher.doDecryptWhisperMessage(message, copy)
    // Decrypting ends an unanswered pre-key offer by deleting it, which assigning would not repeat.
    if (!copy.pendingPreKey) delete session.pendingPreKey
    Object.assign(session, copy)
    session.indexInfo.used = Date.now()
    return plaintext
  } catch {
    return null
  }
}
