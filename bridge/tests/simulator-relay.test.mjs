/** Promises about messages: every one arrives, decrypted once, in order, whoever was away. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { TestClient } from '../simulator/testing/client.mjs'
import { eventually, SimulatorProcess } from '../simulator/testing/harness.mjs'

const [ALICE, BORIS, CLARA] = ['79990000001', '79990000002', '79990000003']
/** After a crash the simulator's state may be this old. */
const JOURNAL_AGE_MS = 200
let simulator, alice, boris, clara

/**
 * One message at a time in each direction. Two clients that open a session to each other at the same moment lose one
 * of the two inside Baileys (send and receive commit separate transactions) and recover by retries, 250 ms each.
 */
async function acquaint(one, other) {
  for (const [from, to] of [
    [one, other],
    [other, one],
  ]) {
    const id = await from.send(to.phone, 'good day')
    await eventually(() => to.upserts.some(({ key, message }) => key.id === id && message), 'the first message')
  }
}

before(async () => {
  simulator = await SimulatorProcess.temporary()
  ;[alice, boris, clara] = await Promise.all([ALICE, BORIS, CLARA].map((phone) => TestClient.paired(simulator, phone)))
  await acquaint(alice, boris)
  await acquaint(alice, clara)
  await acquaint(boris, clara)
})
after(async () => {
  await Promise.all([alice, boris, clara].map((client) => client.disconnect()))
  await simulator.remove()
})

const numbered = (prefix, count) => Array.from({ length: count }, (_unused, index) => `${prefix} ${index}`)
const textOf = (message) => message?.extendedTextMessage?.text ?? message?.conversation
const isTwice = ({ message }) => textOf(message)?.startsWith('twice')
const queuedFor = async (phone) => (await simulator.must('GET', `/phones/${phone}/devices`)).devices[0].queued
const reconnect = async (client) => {
  client.connect()
  await client.whenOpen()
}

test('500 messages both ways are all decrypted, each once and in order', async () => {
  for (let index = 0; index < 500; index++) {
    await Promise.all([alice.send(BORIS, `to-boris ${index}`), boris.send(ALICE, `to-alice ${index}`)])
  }
  await eventually(
    () => alice.received('to-alice').length >= 500 && boris.received('to-boris').length >= 500,
    'all 1,000',
    15_000,
  )
  assert.deepEqual(alice.received('to-alice'), numbered('to-alice', 500))
  assert.deepEqual(boris.received('to-boris'), numbered('to-boris', 500))
  assert.equal(alice.stubs.length + boris.stubs.length, 0)
})

test('the sender is shown by LID with the phone number beside it, and delivery and read receipts come back', async () => {
  const id = await alice.send(BORIS, 'receipts please')
  const message = await eventually(() => boris.upserts.find(({ key }) => key.id === id), 'the message')
  assert.match(message.key.remoteJid, /^\d+@lid$/)
  assert.equal(message.key.remoteJidAlt, `${ALICE}@s.whatsapp.net`)
  const status = (wanted) => alice.receipts.some(({ key, update }) => key.id === id && update.status === wanted)
  await eventually(() => status(3), 'a delivery receipt')
  await boris.socket.readMessages([message.key])
  await eventually(() => status(4), 'a read receipt')
})

test('100 messages in a group of three are decrypted once by everyone', async () => {
  const { jid } = await simulator.must('POST', '/groups', { subject: 'three', participants: [ALICE, BORIS, CLARA] })
  const senders = [alice, boris, clara]
  for (let index = 0; index < 100; index++) await senders[index % 3].send(jid, `group ${index}`)
  for (const [at, client] of senders.entries()) {
    const expected = numbered('group', 100).filter((_text, index) => index % 3 !== at)
    await eventually(() => client.received('group').length >= expected.length, `the group at ${client.phone}`, 15_000)
    assert.deepEqual([...client.received('group')].sort(), [...expected].sort())
    assert.equal(client.stubs.filter(({ key }) => key.id && !key.remoteJid.endsWith('@g.us')).length, 0)
  }
})

test('a group that a client makes is known to its members, and changes of members are told', async () => {
  const told = []
  boris.socket.ev.on('groups.upsert', (groups) => told.push(...groups))
  clara.socket.ev.on('group-participants.update', (update) => told.push(update))
  const made = await alice.socket.groupCreate('made by alice', [`${BORIS}@s.whatsapp.net`])
  assert.equal(made.participants.length, 2)
  await eventually(() => told.find((group) => group.id === made.id), 'the group at a member')
  await alice.socket.groupParticipantsUpdate(made.id, [`${CLARA}@s.whatsapp.net`], 'add')
  const mine = await eventually(
    async () => (await clara.socket.groupFetchAllParticipating())[made.id],
    'the group at the new member',
  )
  assert.equal(mine.participants.length, 3)
  await clara.send(made.id, 'hello from the new member')
  await eventually(() => boris.received('hello from the new member').length, 'her message')
  await boris.socket.groupLeave(made.id)
  await assert.rejects(boris.socket.groupMetadata(made.id), /forbidden/)
})

test('what was sent to an absent device waits on disk and arrives first and in order', async () => {
  await boris.disconnect()
  for (let index = 0; index < 30; index++) await alice.send(BORIS, `while away ${index}`)
  await eventually(async () => (await queuedFor(BORIS)) >= 30, 'the queue')
  await new Promise((resolve) => setTimeout(resolve, JOURNAL_AGE_MS))
  await simulator.kill('SIGKILL')
  await Promise.all([alice.whenClosed(), clara.whenClosed()])
  await simulator.start()
  await Promise.all([alice, boris, clara].map(reconnect))
  await alice.send(BORIS, 'while away 30')
  await eventually(() => boris.received('while away').length >= 31, 'what waited', 15_000)
  assert.deepEqual(boris.received('while away'), numbered('while away', 31))
  await eventually(async () => (await queuedFor(BORIS)) === 0, 'an empty queue')
})

test('a message whose ack was lost comes again at the next login, under the same id', async () => {
  await simulator.must('POST', '/faults', { kind: 'lose-acks', phone: BORIS })
  const id = await alice.send(BORIS, 'ack lost')
  await eventually(() => boris.received('ack lost').length, 'the message')
  await simulator.must('DELETE', '/faults')
  assert.equal(await queuedFor(BORIS), 1)
  await boris.disconnect()
  await reconnect(boris)
  // libsignal cannot tell a copy from a foreign message, so Baileys asks the sender again and yields it a second time.
  await eventually(() => boris.received('ack lost').length === 2, 'the message sent again')
  const again = boris.upserts.filter(({ key }) => key.id === id)
  assert.deepEqual([...new Set(again.map(({ key }) => key.id))], [id])
  await eventually(async () => (await queuedFor(BORIS)) === 0, 'an empty queue')
})

test('a message delivered twice has one id, by which a receiver tells the copy', async () => {
  const before = (await simulator.must('GET', '/stats')).faults
  await simulator.must('POST', '/faults', { kind: 'duplicate', phone: BORIS, count: 10 })
  for (let index = 0; index < 10; index++) await alice.send(BORIS, `twice ${index}`)
  await eventually(async () => !(await simulator.must('GET', '/faults')).faults.length, 'the fault used up')
  assert.equal((await simulator.must('GET', '/stats')).faults - before, 10)
  await eventually(() => new Set(boris.received('twice')).size >= 10, 'all ten')
  const ids = new Map(boris.upserts.filter(isTwice).map(({ key, message }) => [key.id, textOf(message)]))
  assert.deepEqual([...ids.values()].sort(), numbered('twice', 10))
})

test('what a client sends just before it closes still arrives', async () => {
  for (let index = 0; index < 5; index++) {
    await alice.send(BORIS, `parting ${index}`)
    await alice.disconnect()
    await reconnect(alice)
  }
  await eventually(() => new Set(boris.received('parting')).size >= 5, 'the parting words')
})

test('a message that cannot be decrypted is asked for again and then arrives', async () => {
  for (const key of [...boris.values.keys()]) if (key.startsWith('session/')) boris.values.delete(key)
  await alice.send(BORIS, 'after the session was lost')
  await eventually(() => boris.received('after the session was lost').length, 'the message sent again', 15_000)
  assert.ok((await simulator.must('GET', '/stats')).retries >= 1)
})

test("a second device of the sender sees what the first one sent, in the recipient's chat", async () => {
  const tablet = await TestClient.paired(simulator, ALICE)
  await alice.send(BORIS, 'seen on the tablet')
  const message = await eventually(
    () => tablet.upserts.find(({ message: body }) => textOf(body) === 'seen on the tablet'),
    'the copy',
  )
  assert.equal(message.key.fromMe, true)
  assert.equal(message.key.remoteJid, boris.creds.me.lid.replace(':1@', '@'))
  assert.equal(message.key.remoteJidAlt, `${BORIS}@s.whatsapp.net`)
  await boris.send(ALICE, 'for both devices')
  await eventually(() => alice.received('for both').length && tablet.received('for both').length, 'both devices')
  await tablet.disconnect()
})

test('when pre-keys run low the client uploads more', async () => {
  const device = await eventually(() => clara.creds.nextPreKeyId, 'pre-keys')
  const keys = Array.from({ length: 812 }, () => ({ tag: 'user', attrs: { jid: `${CLARA}:1@s.whatsapp.net` } }))
  await alice.socket.query({
    tag: 'iq',
    attrs: { to: '@s.whatsapp.net', type: 'get', xmlns: 'encrypt' },
    content: [{ tag: 'key', attrs: {}, content: keys }],
  })
  await eventually(() => clara.creds.nextPreKeyId > device, 'an upload')
  const { content } = await alice.socket.query({
    tag: 'iq',
    attrs: { to: '@s.whatsapp.net', type: 'get', xmlns: 'encrypt' },
    content: [{ tag: 'key', attrs: {}, content: keys.slice(0, 1) }],
  })
  assert.ok(content[0].content[0].content.some(({ tag }) => tag === 'skey'))
})

test('queries of Baileys are answered: who is on WhatsApp, privacy, pictures, block list', async () => {
  const [known] = await alice.socket.onWhatsApp(BORIS)
  assert.deepEqual(known, { jid: `${BORIS}@s.whatsapp.net`, exists: true })
  assert.deepEqual(await alice.socket.onWhatsApp('79990099999'), [])
  await simulator.must('POST', '/phones', { phone: '79990099999' })
  assert.equal((await alice.socket.onWhatsApp('79990099999'))[0].exists, true)
  assert.equal((await alice.socket.fetchPrivacySettings(true)).readreceipts, 'all')
  assert.deepEqual(await alice.socket.fetchBlocklist(), [])
  await assert.rejects(alice.socket.profilePictureUrl(`${BORIS}@s.whatsapp.net`), /item-not-found/)
  await alice.socket.rotateSignedPreKey()
  assert.deepEqual((await simulator.must('GET', '/stats')).unknown_iqs, {})
})
