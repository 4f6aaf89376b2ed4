/** What the session host promises: real Baileys sockets against the simulator, auth state at a fake gateway. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { until } from './fake-gateway.mjs'
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
  // First messages that cross cost a retry, and what is sent again comes later than what was sent after it.
  await w.send('anna', BORIS, 'hello boris')
  await w.received('boris', ['hello boris'])
  await w.send('boris', ANNA, 'hello anna')
  await w.received('anna', ['hello anna'])
  const fromAnna = Array.from({ length: 20 }, (_, i) => `to boris ${i}`)
  const fromBoris = Array.from({ length: 20 }, (_, i) => `to anna ${i}`)
  const sent = await Promise.all([
    ...fromAnna.map((text) => w.send('anna', BORIS, text)),
    ...fromBoris.map((text) => w.send('boris', ANNA, text)),
  ])
  const toBoris = ['hello boris', ...fromAnna]
  const toAnna = ['hello anna', ...fromBoris]
  assert.deepEqual(await w.received('boris', toBoris), toBoris)
  assert.deepEqual(await w.received('anna', toAnna), toAnna)
  assert.equal(new Set(sent.map((s) => s.message_id)).size, 40)
  assert.deepEqual(
    w.gateway.events.filter((e) => e.kind === 'undecryptable'),
    [],
    'though both wrote first',
  )
})

test('a session that was stopped opens again without pairing and gets what was sent meanwhile, in order, once', async (t) => {
  const w = await world(t)
  await w.paired('anna', ANNA)
  await w.paired('boris', BORIS)
  await w.send('anna', BORIS, 'first')
  await w.received('boris', ['first'])
  await w.stop('boris')
  assert.equal((await w.event('boris', 'closed')).status, 0)
  const texts = Array.from({ length: 15 }, (_, i) => `meanwhile ${i}`)
  await Promise.all(texts.map((text) => w.send('anna', BORIS, text)))
  await w.opened('boris')
  await w.send('anna', BORIS, 'last')
  assert.deepEqual(await w.received('boris', ['first', ...texts, 'last']), ['first', ...texts, 'last'])
  const messages = w.gateway.events.filter((e) => e.company === 'boris' && e.kind === 'message')
  assert.ok(messages.every(({ message }) => message.live && message.type === 'text' && message.timestamp_s > 0))
  assert.ok(messages.every(({ message }) => message.chat === message.sender && message.sender.endsWith('@lid')))
  assert.ok(messages.every(({ message }) => message.sender_alt.startsWith(ANNA)))
})

test('a message to a group reaches every member, decrypted and in order, with its sender', async (t) => {
  const w = await world(t)
  await w.paired('anna', ANNA)
  await w.paired('boris', BORIS)
  const { jid } = await w.admin('POST', '/groups', { subject: 'made up', participants: [ANNA, BORIS] })
  const texts = Array.from({ length: 10 }, (_, i) => `group ${i}`)
  await Promise.all(texts.map((text) => w.send('anna', jid, text)))
  assert.deepEqual(await w.received('boris', texts), texts)
  const { message } = await w.event('boris', 'message')
  assert.equal(message.chat, jid)
  assert.notEqual(message.sender, jid)
})

test('what became of a message sent is reported', async (t) => {
  const w = await world(t)
  await w.paired('anna', ANNA)
  await w.paired('boris', BORIS)
  const { message_id } = await w.send('anna', BORIS, 'hello', { message_id: '3EB0ABCDEF0123456789' })
  assert.equal(message_id, '3EB0ABCDEF0123456789')
  const status = (wanted) => (e) => e.kind === 'receipt' && e.message_id === message_id && e.status === wanted
  await w.gateway.event(status('sent'))
  await w.gateway.event(status('delivered'))
})

test('a refused pairing code is never shown, and an unfinished pairing can be begun anew', async (t) => {
  const w = await world(t)
  await w.admin('POST', '/faults', { kind: 'refuse-pairing-code', code: 429, count: 1 })
  await w.start('anna', { by: 'code', phone: ANNA })
  assert.equal((await w.event('anna', 'pairing_refused')).status, 429)
  assert.ok(!w.gateway.events.some((e) => e.kind === 'pairing_code'))
  await w.stop('anna')
  assert.match(w.gateway.company('anna').creds, /"me":\{"id":"79990000001@/, 'Baileys has saved a login nobody granted')
  await w.paired('anna', ANNA)
})

test('only the newest generation of a company is answered', async (t) => {
  const w = await world(t)
  await w.paired('anna', ANNA)
  const ask = (method, params) => w.peer.request(method, { company: 'anna', ...params })
  const refused = { code: 'session_not_open' }
  await assert.rejects(ask('session.stop', { generation: 1 }), refused)
  await assert.rejects(ask('session.start', { generation: 2, pair: null }), refused)
  await assert.rejects(ask('message.send', { generation: 3, jid: `${BORIS}@s.whatsapp.net`, content: {} }), refused)
  await assert.rejects(ask('message.send', { company: 'nobody', generation: 1 }), refused)
  await w.start('anna')
  await w.event('anna', 'open')
  const closed = w.gateway.events.filter((e) => e.kind === 'closed').map((e) => [e.generation, e.status])
  assert.deepEqual(
    closed,
    [
      [1, 515],
      [2, 0],
    ],
    'the older socket ended in order before the newer began',
  )
})

test('bad requests are refused and harm nothing', async (t) => {
  const w = await world(t)
  await w.paired('anna', ANNA)
  const bad = [
    ['session.start', { company: '../etc', generation: 1 }, 'usage'],
    ['session.start', { company: 'x', generation: 0 }, 'usage'],
    ['session.start', { company: 'x', generation: 1, pair: { by: 'code', phone: '+7 999' } }, 'usage'],
    ['session.start', { company: 'x', generation: 1, pair: { by: 'magic' } }, 'usage'],
    ['message.send', { company: 'anna', generation: 2, jid: 'nowhere', content: { text: 'x' } }, 'usage'],
    ['message.send', { company: 'anna', generation: 2, jid: `${BORIS}@s.whatsapp.net`, content: 'x' }, 'usage'],
    ['message.send', { company: 'anna', generation: 2, jid: `${BORIS}@s.whatsapp.net`, content: {} }, 'send_failed'],
    ['no.such', {}, 'protocol'],
    ['toString', {}, 'protocol'],
  ]
  for (const [method, params, code] of bad) {
    await assert.rejects(w.peer.request(method, params), (error) => {
      assert.equal(error.code, code, `${method} ${JSON.stringify(params)}: ${error.message}`)
      assert.ok(error.next_step)
      return true
    })
  }
  const stats = await w.peer.request('host.stats', {})
  assert.equal(stats.pid, w.child.pid)
  assert.ok(stats.rss_bytes > stats.heap_bytes && stats.heap_bytes > 1_000_000)
  assert.ok(stats.event_loop_delay_ms >= 0)
  assert.deepEqual(
    stats.sessions.map(({ company, generation }) => [company, generation]),
    [['anna', 2]],
  )
  assert.ok(stats.sessions[0].last_frame_age_ms < 20_000)
})

test('a socket is judged by its traffic: frames, a ping of ours, what the server has not confirmed', async (t) => {
  const w = await world(t)
  await w.paired('anna', ANNA)
  const row = async (params = {}) => (await w.peer.request('host.stats', params)).sessions[0]
  const first = await row()
  assert.deepEqual([first.ping_ms, first.unconfirmed_ms], [null, null])
  // A frame that has just come is a sign of life as well: then none is sent yet.
  const pinged = async () => {
    const { ping_ms: roundTrip, ping_waits_ms: waits } = await row({ ping_idle_ms: 1 })
    return waits !== null || roundTrip > 0
  }
  await until(pinged, 'a ping')
  await until(async () => (await row()).ping_ms > 0 && (await row()).ping_waits_ms === null, 'the round trip')

  await w.admin('POST', '/contacts', { phone: BORIS, behaviour: 'silent' })
  await w.admin('POST', '/faults', { kind: 'deaf', phone: ANNA })
  await w.send('anna', BORIS, 'do you hear me?')
  await until(async () => (await row()).unconfirmed_ms > 50, 'a message that nobody confirms')
  await w.admin('POST', '/faults', { kind: 'mute', phone: ANNA })
  await until(async () => (await row({ ping_idle_ms: 1 })).ping_waits_ms > 50, 'a ping that nobody answers')
})

test('what is asked for again is counted on both sides', async (t) => {
  const w = await world(t)
  await w.paired('anna', ANNA)
  await w.paired('boris', BORIS)
  await w.send('anna', BORIS, 'hello boris')
  await w.send('boris', ANNA, 'hello anna')
  await w.received('anna', ['hello anna'])
  await w.received('boris', ['hello boris'])
  await w.stop('boris')
  const { keys } = w.gateway.company('boris')
  for (const name of [...keys.keys()]) if (name.startsWith('session/')) keys.delete(name)
  await w.opened('boris')
  await w.send('anna', BORIS, 'and again')
  await w.received('boris', ['hello boris', 'and again'])
  const { sessions } = await w.peer.request('host.stats', {})
  assert.deepEqual(
    sessions.map((row) => [row.company, row.retries_sent, row.retries_received]),
    [
      ['anna', 0, 1],
      ['boris', 1, 0],
    ],
  )
})

test('a request that comes in the same breath as the answer to hello is answered', async (t) => {
  const w = await world(t, { host: false })
  const asked = new Promise((resolve) => {
    w.gateway.answered = (peer, method) => {
      if (method === 'hello') resolve(peer.request('session.start', { company: 'anna', generation: 1, pair: null }))
    }
  })
  w.generations.set('anna', 1)
  await w.startHost()
  assert.equal(await asked, null)
  assert.equal((await w.event('anna', 'error')).error.code, 'company_unknown')
})
