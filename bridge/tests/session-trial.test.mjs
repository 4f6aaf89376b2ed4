/** What the mend of libsignal's session search and the writing of sessions promise, on Baileys' own repositories. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addTransactionCapability, Curve, generateSignalPubKey, initAuthCreds } from 'baileys'
import { makeBaileysLog, makeHostLog } from '../lib/host-log.mjs'
import { muteConsole } from '../lib/quiet-console.mjs'
import { signalRepositoryOver } from '../lib/signal-repository.mjs'
import { encodeSession, encodeValue, reviveBuffers } from '../lib/values.mjs'

muteConsole({ onlyFrom: 'libsignal' })
const log = makeBaileysLog(makeHostLog('silent'))
const OPTIONS = { maxCommitRetries: 1, delayBetweenTriesMs: 1 }

/** One side of a conversation: keys in memory, and the bundle that the other begins a session with. */
function side(jid) {
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
  return { jid, bundle, values, repository: signalRepositoryOver(store)({ creds, keys }, log, async () => []) }
}

test('two sides that begin a session at the same time understand each other from the first message on', async () => {
  const anna = side('79990000001@s.whatsapp.net')
  const boris = side('79990000002@s.whatsapp.net')
  const begin = (from, to) => from.repository.injectE2ESession({ jid: to.jid, session: to.bundle })
  const say = async (from, to, text) => ({ to, from, text, ...(await encrypted(from, to, text)) })
  const encrypted = (from, to, text) => from.repository.encryptMessage({ jid: to.jid, data: Buffer.from(text) })
  const hear = async ({ to, from, text, type, ciphertext }) => {
    const heard = await to.repository.decryptMessage({ jid: from.jid, type, ciphertext })
    assert.equal(Buffer.from(heard).toString(), text)
  }
  await Promise.all([begin(anna, boris), begin(boris, anna)])
  for (let round = 0; round < 6; round++) {
    const crossing = []
    for (let i = 0; i < 3; i++) {
      crossing.push(await say(anna, boris, `a ${round} ${i}`), await say(boris, anna, `b ${round} ${i}`))
    }
    for (const message of crossing) await hear(message)
    for (const { values } of [anna, boris]) requireWrittenWhole(values)
  }
})

/** Sessions as libsignal makes them, unanswered offers and closed ones among them, need no search for bytes. */
function requireWrittenWhole(values) {
  const sessions = [...values].filter(([name]) => name.startsWith('session/'))
  assert.equal(sessions.length, 1)
  for (const [, session] of sessions) assert.equal(encodeSession(session), encodeValue(session))
}

test('bytes in a session are kept, whether or not libsignal made it', () => {
  const session = (version) => ({
    version,
    _sessions: { a: { buffer: Buffer.from([5, 0, 200]), plain: new Uint8Array([1, 2]) } },
  })
  for (const version of ['v1', 'v2']) {
    const { a } = reviveBuffers(JSON.parse(encodeSession(session(version))))._sessions
    assert.deepEqual(a, { buffer: Buffer.from([5, 0, 200]), plain: Buffer.from([1, 2]) })
  }
  assert.deepEqual(reviveBuffers(JSON.parse(encodeSession(new Uint8Array([1, 2])))), Buffer.from([1, 2]))
})
