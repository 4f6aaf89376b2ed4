/** What asking WhatsApp about pre-keys promises: a list only where everything agrees, and never more than that. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { world } from './host-harness.mjs'

const ANNA = '79990000001'
const BORIS = '79990000002'

test('an open session learns which pre-keys WhatsApp still hands out, and nothing where one of them is not stored', async (t) => {
  const w = await world(t)
  await w.paired('anna', ANNA)
  await w.paired('boris', BORIS)
  const ask = (company) => w.peer.request('session.pre_keys', { company, generation: w.generations.get(company) })
  const { keys } = w.gateway.company('anna')
  const stored = () => [...keys.keys()].filter((key) => key.startsWith('pre-key')).map((key) => key.match(/\d+$/)[0])
  const before = await ask('anna')
  assert.equal(before.reason, null)
  assert.deepEqual(before.listed, stored(), 'each that was handed out so far was used, and is stored no more')
  assert.equal(before.first_unuploaded, 813)
  await w.send('boris', ANNA, 'the first takes one')
  await w.received('anna', ['the first takes one'])
  const after = await ask('anna')
  assert.deepEqual(after.listed, before.listed.slice(1), 'all but the one that was handed out')
  keys.delete([...keys.keys()].find((key) => key.startsWith('pre-key') && key.endsWith(after.listed[0])))
  const { listed, reason } = await ask('anna')
  assert.equal(listed, null)
  assert.match(reason, /^1 pre-keys that WhatsApp hands out are not stored here/)
})
