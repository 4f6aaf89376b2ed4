/** What the session host promises: real Baileys sockets against the simulator, auth state at a fake gateway. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { world } from './host-harness.mjs'

const ANNA = '79990000001'
const BORIS = '79990000002'

test('two companies pair by QR and by code, go through 515, log in and chat both ways', async (t) => {
  const w = await world(t)
  await w.paired('anna', ANNA)
  await w.start('boris', { by: 'code', phone: BORIS })
  const { code, ttl_s } = await w.event('boris', 'pairing_code')
  assert.equal(ttl_s, 50)
  await w.admin('POST', '/enter-code', { phone: BORIS, code })
  await w.reopened('boris')
  const fromAnna = Array.from({ length: 20 }, (_, i) => `to boris ${i}`)
  const fromBoris = Array.from({ length: 20 }, (_, i) => `to anna ${i}`)
  const sent = await Promise.all([
    ...fromAnna.map((text) => w.send('anna', BORIS, text)),
    ...fromBoris.map((text) => w.send('boris', ANNA, text)),
  ])
  assert.deepEqual(await w.received('boris', fromAnna), fromAnna)
  assert.deepEqual(await w.received('anna', fromBoris), fromBoris)
  assert.equal(new Set(sent.map((s) => s.message_id)).size, 40)
})
