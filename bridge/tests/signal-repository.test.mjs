/** What ordering transactions and writing ratchets ahead promise, on Baileys' own transactions and libsignal. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addTransactionCapability, Curve, initAuthCreds, signedKeyPair } from 'baileys'
import { makeBaileysLog, makeHostLog } from '../lib/host-log.mjs'
import { signalStoreOver } from '../lib/signal-repository.mjs'
import { orderTransactions } from '../lib/transaction-order.mjs'

const OPTIONS = { maxCommitRetries: 1, delayBetweenTriesMs: 1 }
const log = makeBaileysLog(makeHostLog('silent'))
const PEER = '79990000002@s.whatsapp.net'

/** An in-memory store whose writes can be watched and made to fail. */
function memory() {
  const values = new Map()
  const store = {
    values,
    unreadable: null,
    get: async (type, ids) => {
      if (store.unreadable) throw store.unreadable
      return Object.fromEntries(ids.map((id) => [id, values.get(`${type}/${id}`)]).filter(([, v]) => v))
    },
    set: async (data) => {
      for (const type in data) for (const id in data[type]) values.set(`${type}/${id}`, data[type][id])
    },
  }
  return store
}

function transactional(store) {
  return addTransactionCapability(store, log, OPTIONS)
}

async function repositoryWithSession(store) {
  const guarded = signalStoreOver(store)
  const keys = transactional(guarded.keys)
  const repository = guarded.makeSignalRepository({ creds: initAuthCreds(), keys }, log, async () => [])
  const identity = Curve.generateKeyPair()
  const { keyId, keyPair, signature } = signedKeyPair(identity, 1)
  const bundle = (key) => Buffer.concat([Buffer.from([5]), key])
  const session = {
    registrationId: 1,
    identityKey: bundle(identity.public),
    signedPreKey: { keyId, publicKey: bundle(keyPair.public), signature },
    preKey: { keyId: 1, publicKey: bundle(Curve.generateKeyPair().public) },
  }
  await repository.injectE2ESession({ jid: PEER, session })
  return { keys, repository }
}

const encrypt = (repository) => repository.encryptMessage({ jid: PEER, data: Buffer.from('made up') })

test('transactions run one at a time, nested ones within, and a failed one does not stop the line', async () => {
  const keys = transactional(memory())
  orderTransactions(keys)
  const log = []
  const work = (name) => async () => {
    log.push(`${name} begins`)
    await keys.transaction(async () => new Promise(setImmediate), 'nested')
    log.push(`${name} ends`)
    if (name === 'b') throw new Error('made up')
  }
  const all = await Promise.allSettled(['a', 'b', 'c'].map((name) => keys.transaction(work(name), name)))
  assert.deepEqual(
    all.map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled'],
  )
  assert.deepEqual(log, ['a begins', 'a ends', 'b begins', 'b ends', 'c begins', 'c ends'])
})

test('a ratchet step is stored before its ciphertext is there to be sent', async () => {
  const store = memory()
  const { keys, repository } = await repositoryWithSession(store)
  await keys.transaction(async () => {
    const before = JSON.stringify([...store.values])
    await encrypt(repository)
    assert.notEqual(JSON.stringify([...store.values]), before, 'stored inside the transaction that sends')
  }, 'sending')
})

test('where the step cannot be stored, nothing is encrypted', async () => {
  const store = memory()
  const { keys, repository } = await repositoryWithSession(store)
  let attempts = 0
  store.set = async () => {
    attempts++
    throw Object.assign(new Error('disk full'), { retryable: false })
  }
  await assert.rejects(
    keys.transaction(() => encrypt(repository), 'sending'),
    /disk full/,
  )
  assert.equal(attempts, 1)
})

test('a store that fails for a moment is waited for', async () => {
  const store = memory()
  const { keys, repository } = await repositoryWithSession(store)
  const { set } = store
  store.set = async () => {
    store.set = set
    throw Object.assign(new Error('away'), { retryable: true })
  }
  const { ciphertext } = await keys.transaction(() => encrypt(repository), 'sending')
  assert.ok(ciphertext.length > 0)
})

/** What is begun in a transaction of `keys`, and goes on once it has ended. */
async function outliving(keys, work) {
  let outcome
  await keys.transaction(async () => {
    outcome = new Promise((resolve) => setTimeout(resolve, 1)).then(work)
  }, 'sending')
  return outcome
}

test('what outlives its transaction is stored, and reads what is stored', async () => {
  const store = memory()
  const { keys } = await repositoryWithSession(store)
  const found = await outliving(keys, async () => {
    assert.equal(keys.isInTransaction(), false)
    await keys.set({ tctoken: { a: 'token' } })
    store.values.set('tctoken/b', 'of another')
    return keys.get('tctoken', ['a', 'b'])
  })
  assert.equal(store.values.get('tctoken/a'), 'token')
  assert.deepEqual(found, { a: 'token', b: 'of another' })
})

test('a step that outlives the transaction it was begun in is stored before its ciphertext all the same', async () => {
  const store = memory()
  const { keys, repository } = await repositoryWithSession(store)
  await outliving(keys, () =>
    keys.transaction(async () => {
      const before = JSON.stringify([...store.values])
      await encrypt(repository)
      assert.notEqual(JSON.stringify([...store.values]), before)
    }, 'another'),
  )
  const { set } = store
  let attempts = 0
  store.set = async (data) => {
    attempts++
    return set(data)
  }
  await outliving(keys, () => encrypt(repository))
  assert.equal(attempts, 2, 'ahead, and with the commit of a transaction of its own')
})

test('a failure ends with its transaction: what outlives it is not refused', async () => {
  const store = memory()
  const { keys } = await repositoryWithSession(store)
  store.unreadable = new Error('away')
  let outcome
  const failing = keys.transaction(async () => {
    outcome = new Promise((resolve) => setTimeout(resolve, 5)).then(() => keys.set({ tctoken: { a: 'token' } }))
    await keys.get('session', ['x'])
  }, 'sending')
  await assert.rejects(failing, /away/)
  store.unreadable = null
  await outcome
  assert.equal(store.values.get('tctoken/a'), 'token')
})
