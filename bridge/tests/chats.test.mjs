/** What the host promises about chats beside sending: read marks, typing, groups. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Chats } from '../lib/chats.mjs'
import { until } from './fake-gateway.mjs'
import { world } from './host-harness.mjs'

const ANNA = '79990000001'
const BORIS = '79990000002'
const JID = `${BORIS}@s.whatsapp.net`

/** A socket that notes what it is told to show. */
function noting() {
  const shown = []
  const sock = {
    sendPresenceUpdate: async (state, jid) => void shown.push(jid ? [state, jid] : [state]),
    presenceSubscribe: async () => {},
  }
  return { shown, chats: new Chats(sock, async () => {}) }
}

test('typing ends by itself, and the company is online no longer than it types somewhere', async () => {
  const { shown, chats } = noting()
  await chats.presence({ jid: JID, typing: true, ttl_s: 0.05 })
  await chats.presence({ jid: 'other@lid', typing: true, ttl_s: 20 })
  await until(() => shown.some(([state]) => state === 'paused'), 'the end of typing', 2_000)
  assert.deepEqual(shown, [['available'], ['composing', JID], ['composing', 'other@lid'], ['paused', JID]])
  await chats.presence({ jid: 'other@lid', typing: false })
  assert.deepEqual(shown.slice(4), [['paused', 'other@lid'], ['unavailable']])
})

test('typing that is asked for again lasts its whole time, and nothing is shown after the socket ended', async () => {
  const { shown, chats } = noting()
  await chats.presence({ jid: JID, typing: true, ttl_s: 0.05 })
  await chats.presence({ jid: JID, typing: true, ttl_s: 20 })
  await new Promise((resolve) => setTimeout(resolve, 120))
  assert.ok(!shown.some(([state]) => state === 'paused'))
  await chats.presence({ jid: JID, typing: true, ttl_s: 0.02 })
  chats.close()
  await new Promise((resolve) => setTimeout(resolve, 60))
  assert.ok(!shown.some(([state]) => state === 'paused'))
})

test('read marks reach the sender, groups are shown, and what cannot be is refused', async (t) => {
  const w = await world(t)
  await w.paired('anna', ANNA)
  await w.paired('boris', BORIS)
  const ask = (company, method, params) =>
    w.peer.request(method, { company, generation: w.generations.get(company), ...params })
  const { message_id } = await w.send('anna', BORIS, 'hello')
  const { message } = await w.event('boris', 'message')
  await ask('boris', 'messages.read', { keys: [{ remoteJid: message.chat, id: message.id, fromMe: false }] })
  await w.gateway.event((e) => e.kind === 'receipt' && e.message_id === message_id && e.status === 'read')
  const { jid } = await w.admin('POST', '/groups', { subject: 'made up', participants: [ANNA, BORIS] })
  assert.deepEqual(
    (await ask('anna', 'groups.list', {})).map((group) => [group.jid, group.name, group.size]),
    [[jid, 'made up', 2]],
  )
  const { participants } = await ask('boris', 'groups.info', { jid })
  assert.deepEqual(
    participants.map(({ phone_jid, role }) => [phone_jid, role]),
    [
      [`${ANNA}@s.whatsapp.net`, 'superadmin'],
      [JID, 'member'],
    ],
  )
  const refused = { code: 'usage' }
  await assert.rejects(ask('anna', 'messages.read', { keys: [] }), refused)
  await assert.rejects(ask('anna', 'messages.read', { keys: [{ id: 'A', remoteJid: 'nobody' }] }), refused)
  await assert.rejects(ask('anna', 'chat.presence', { jid: JID, typing: true, ttl_s: 60 }), refused)
  await assert.rejects(ask('anna', 'groups.info', { jid: '120363000000000000@g.us' }), refused)
})
