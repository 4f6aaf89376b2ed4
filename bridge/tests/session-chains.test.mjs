/** What dropping spent chains promises, on Baileys' own repositories. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { muteConsole } from '../lib/quiet-console.mjs'
import { SPENT_CHAINS_KEPT } from '../lib/session-chains.mjs'
import { encodeSession } from '../lib/values.mjs'
import { sides } from './signal-sides.mjs'

muteConsole({ onlyFrom: 'libsignal' })
const TURNS = 20

const sealed = async (from, to, text) => ({ from, to, text, ...(await from.encrypt(to, text)) })
const opened = ({ from, to, type, ciphertext }) => to.decrypt(from, type, ciphertext)
const sessionOf = ({ values }) => [...values].find(([name]) => name.startsWith('session/'))[1]

/** Each speaks in turn; every fifth message is kept back. */
async function conversation(anna, boris) {
  const keptBack = []
  for (let turn = 0; turn < TURNS; turn++) {
    for (const [from, to] of [
      [anna, boris],
      [boris, anna],
    ]) {
      const late = await sealed(from, to, `late ${turn}`)
      if (turn > 0 && turn % 5 === 0) keptBack.push(late)
      else assert.equal(await opened(late), late.text)
      const message = await sealed(from, to, `turn ${turn}`)
      assert.equal(await opened(message), message.text)
    }
  }
  return keptBack
}

test('a session does not grow with the turns of a conversation', async () => {
  const [anna, boris] = await sides()
  await conversation(anna, boris)
  for (const side of [anna, boris]) {
    const [{ _chains: chains }] = Object.values(sessionOf(side)._sessions)
    const waitedOn = Object.values(chains).filter(({ messageKeys }) => Object.keys(messageKeys).length > 0)
    assert.equal(waitedOn.length, TURNS / 5 - 1)
    const living = 2
    assert.ok(Object.keys(chains).length <= waitedOn.length + SPENT_CHAINS_KEPT + living)
  }
})

test('what arrives late is read, from however long ago', async () => {
  const keptBack = await conversation(...(await sides()))
  assert.equal(keptBack.length, 2 * (TURNS / 5 - 1))
  for (const message of keptBack) assert.equal(await opened(message), message.text)
})

test('a second delivery is refused alike, however late, and harms nothing', async () => {
  const [anna, boris] = await sides()
  await conversation(anna, boris)
  const message = await sealed(anna, boris, 'twice')
  assert.equal(await opened(message), 'twice')
  for (let turn = 0; turn < 2 * SPENT_CHAINS_KEPT; turn++) {
    await assert.rejects(opened(message), { message: 'No matching sessions found for message' })
    assert.equal(await opened(await sealed(boris, anna, 'and')), 'and')
    assert.equal(await opened(await sealed(anna, boris, 'on')), 'on')
  }
})

test('a long session that was stored before, its chains in any order, loses none that is needed', async () => {
  const [anna, boris] = await sides()
  await conversation(anna, boris)
  const spent = { chainKey: { counter: 3 }, chainType: 2, messageKeys: {} }
  for (const side of [anna, boris]) {
    for (const session of Object.values(sessionOf(side)._sessions)) {
      for (let n = 0; n < 100; n++) session._chains[Buffer.from(`made up ${n}`).toString('base64')] = spent
    }
  }
  const before = encodeSession(sessionOf(anna)).length
  for (const message of await conversation(anna, boris)) assert.equal(await opened(message), message.text)
  assert.ok(encodeSession(sessionOf(anna)).length < before - 5_000)
})
