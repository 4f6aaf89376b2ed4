/** What a failed read may not do, on Baileys' own transactions and libsignal. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addTransactionCapability, Curve, initAuthCreds, signedKeyPair } from 'baileys'
import { makeBaileysLog, makeHostLog } from '../lib/host-log.mjs'
import { signalStoreOver } from '../lib/signal-repository.mjs'

const log = makeBaileysLog(makeHostLog('silent'))
const PEER = '79990000003@s.whatsapp.net'

function bundle() {
  const identity = Curve.generateKeyPair()
  const { keyId, keyPair, signature } = signedKeyPair(identity, 1)
  const prefixed = (key) => Buffer.concat([Buffer.from([5]), key])
  return {
    registrationId: 1,
    identityKey: prefixed(identity.public),
    signedPreKey: { keyId, publicKey: prefixed(keyPair.public), signature },
    preKey: { keyId: 1, publicKey: prefixed(Curve.generateKeyPair().public) },
  }
}

test('a session that could not be read is not begun anew over the stored one', async () => {
  const sessions = new Map()
  let fail = false
  const store = {
    get: async (type, ids) => {
      if (type === 'session' && fail) throw new Error('the database is away')
      return Object.fromEntries(ids.filter((id) => sessions.has(id)).map((id) => [id, sessions.get(id)]))
    },
    set: async (data) => {
      for (const [id, value] of Object.entries(data.session ?? {})) sessions.set(id, value)
    },
  }
  const { keys: guarded, makeSignalRepository } = signalStoreOver(store)
  const keys = addTransactionCapability(guarded, log, { maxCommitRetries: 1, delayBetweenTriesMs: 1 })
  const repository = makeSignalRepository({ creds: initAuthCreds(), keys }, log, async () => [])
  await repository.injectE2ESession({ jid: PEER, session: bundle() })
  const before = JSON.stringify([...sessions])

  fail = true
  await assert.rejects(repository.injectE2ESession({ jid: PEER, session: bundle() }), /the database is away/)
  assert.equal(JSON.stringify([...sessions]), before)

  fail = false
  await repository.injectE2ESession({ jid: PEER, session: bundle() })
  assert.notEqual(JSON.stringify([...sessions]), before, 'the next transaction begins without that failure')
})
