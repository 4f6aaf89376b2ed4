/** What sharing one AsyncLocalStorage promises. */

import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { adoptStorage, Context } from '../lib/context.mjs'
import { sides } from './signal-sides.mjs'

test('values go with their asynchronous context, each for itself, and nested ones end', async () => {
  const [a, b] = [new Context(), new Context()]
  const seen = []
  const look = async (name) => {
    await turn()
    seen.push([name, a.getStore(), b.getStore()])
  }
  await Promise.all([
    a.run(1, async () => {
      await b.run(2, () => look('both'))
      await a.run(3, () => look('inner'))
      await look('a')
    }),
    b.run(4, () => look('b')),
    look('neither'),
  ])
  const of = (wanted) => seen.find(([name]) => name === wanted).slice(1)
  assert.deepEqual(of('both'), [1, 2])
  assert.deepEqual(of('inner'), [3, undefined])
  assert.deepEqual(of('a'), [1, undefined])
  assert.deepEqual(of('b'), [undefined, 4])
  assert.deepEqual(of('neither'), [undefined, undefined])
})

test('however many sockets there are, one storage is visited for every promise', async (t) => {
  const used = new Set()
  const { run } = AsyncLocalStorage.prototype
  t.after(() => {
    AsyncLocalStorage.prototype.run = run
  })
  AsyncLocalStorage.prototype.run = function (...args) {
    used.add(this)
    return run.apply(this, args)
  }
  for (let n = 0; n < 3; n++) {
    const [anna, boris] = await sides()
    const { type, ciphertext } = await anna.encrypt(boris, 'hello')
    assert.equal(await boris.decrypt(anna, type, ciphertext), 'hello')
  }
  assert.equal(used.size, 1)
})

test('a storage in use, and what is shared already, are left alone', () => {
  const storage = new AsyncLocalStorage()
  storage.run('kept', () => {
    adoptStorage(() => storage.getStore())
    assert.equal(storage.getStore(), 'kept')
  })
  const context = new Context()
  adoptStorage(() => context.getStore())
  context.run(1, () => assert.equal(context.getStore(), 1))
  adoptStorage(() => {})
})
