/**
 * Owns: the few parts of Baileys that stand below its package entry.
 * Invariant: nothing else in the simulator imports from inside the package.
 */
import { WA_CERT_DETAILS } from 'baileys/lib/Defaults/index.js'

export { encodeWAMessage, parseAndInjectE2ESessions, proto } from 'baileys'
export { DEFAULT_CONNECTION_CONFIG, NOISE_MODE, NOISE_WA_HEADER } from 'baileys/lib/Defaults/index.js'
export { makeLibSignalRepository } from 'baileys/lib/Signal/libsignal.js'

/** Makes every Baileys client of this process accept the simulator's certificates. */
export function trustRootKey(publicKey) {
  WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(publicKey)
}
