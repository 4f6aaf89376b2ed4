/** Two parties with Baileys' own repositories over keys in memory, for tests of what libsignal does between them. */

import { addTransactionCapability, Curve, generateSignalPubKey, initAuthCreds } from 'baileys'
import { makeBaileysLog, makeHostLog } from '../lib/host-log.mjs'
import { signalRepositoryOver } from '../lib/signal-repository.mjs'

const log = makeBaileysLog(makeHostLog('silent'))
const OPTIONS = { maxCommitRetries: 1, delayBetweenTriesMs: 1 }

/** One side of a conversation: keys in memory, and the bundle that the other begins a session with. */
export function side(jid) {
  const values = new Map()
  const preKey = Curve.generateKeyPair()
  values.set('pre-key/1', preKey)
  const store = {
    get: async (type, ids) => Object.fromEntries(ids.map((id) => [id, values.get(`${type}/${id}`)])),
    set: async (data) => {
      for (const type in data) for (const id in data[type]) values.set(`${type}/${id}`, data[type][id])
    },
  }
  const creds = initAuthCreds()
  const keys = addTransactionCapability(store, log, OPTIONS)
  const { keyId, keyPair, signature } = creds.signedPreKey
  const bundle = {
    registrationId: creds.registrationId,
    identityKey: generateSignalPubKey(creds.signedIdentityKey.public),
    signedPreKey: { keyId, publicKey: generateSignalPubKey(keyPair.public), signature },
    preKey: { keyId: 1, publicKey: generateSignalPubKey(preKey.public) },
  }
  const repository = signalRepositoryOver(store)({ creds, keys }, log, async () => [])
  return {
    jid,
    values,
    begin: (to) => repository.injectE2ESession({ jid: to.jid, session: to.bundle }),
    encrypt: (to, text) => repository.encryptMessage({ jid: to.jid, data: Buffer.from(text) }),
    decrypt: async (from, type, ciphertext) => {
      return Buffer.from(await repository.decryptMessage({ jid: from.jid, type, ciphertext })).toString()
    },
    bundle,
  }
}

/** Two that know each other: the first has begun a session with the second. */
export async function sides() {
  const anna = side('79990000001@s.whatsapp.net')
  const boris = side('79990000002@s.whatsapp.net')
  await anna.begin(boris)
  return [anna, boris]
}
