/** What the mend of libsignal's session search and the writing of sessions promise, on Baileys' own repositories. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { muteConsole } from '../lib/quiet-console.mjs'
import { encodeSession, encodeValue, reviveBuffers } from '../lib/values.mjs'
import { side } from './signal-sides.mjs'

muteConsole({ onlyFrom: 'libsignal' })

test('two sides that begin a session at the same time understand each other from the first message on', async () => {
  const anna = side('79990000001@s.whatsapp.net')
  const boris = side('79990000002@s.whatsapp.net')
  const say = async (from, to, text) => ({ to, from, text, ...(await from.encrypt(to, text)) })
  const hear = async ({ to, from, text, type, ciphertext }) => {
    assert.equal(await to.decrypt(from, type, ciphertext), text)
  }
  await Promise.all([anna.begin(boris), boris.begin(anna)])
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
