/** Promises about faults: each reaches Baileys as the close or the silence it stands for, and ends when told. */
import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import WebSocket from 'ws'
import { TestClient } from '../simulator/testing/client.mjs'
import { eventually, SimulatorProcess } from '../simulator/testing/harness.mjs'

const [ALICE, BORIS] = ['79990000001', '79990000002']
let simulator, alice, boris

before(async () => {
  simulator = await SimulatorProcess.temporary()
  ;[alice, boris] = await Promise.all([ALICE, BORIS].map((phone) => TestClient.paired(simulator, phone)))
})
beforeEach(async () => {
  await simulator.must('DELETE', '/faults')
  for (const client of [alice, boris]) {
    if (client.state === 'open') continue
    client.connect()
    await client.whenOpen()
  }
})
after(async () => {
  await Promise.all([alice, boris].map((client) => client.disconnect()))
  await simulator.remove()
})

for (const code of [408, 428, 440, 503, 401]) {
  test(`close with ${code} shows ${code} in Baileys`, async () => {
    const { affected } = await simulator.must('POST', '/faults', { kind: 'close', code, phone: ALICE })
    assert.equal(affected, 1)
    assert.equal(await alice.whenClosed(), code)
    assert.equal(boris.state, 'open')
  })
}

test('close with 515 makes a client restart', async () => {
  const before = alice.codes.length
  await simulator.must('POST', '/faults', { kind: 'close', code: 515, phone: ALICE })
  await eventually(() => alice.codes.length > before, 'the restart')
  await alice.whenOpen()
  assert.equal(alice.codes.at(-1), 515)
})

test('close for a while refuses to keep a connection until the time is over', async () => {
  await simulator.must('POST', '/faults', { kind: 'close', code: 503, phone: ALICE, for_ms: 400 })
  assert.equal(await alice.whenClosed(), 503)
  alice.connect()
  assert.equal(await alice.whenClosed(), 503)
  await eventually(async () => !(await simulator.must('GET', '/faults')).faults.length, 'the end of the fault')
  alice.connect()
  await alice.whenOpen()
})

test('drop cuts the TCP connection without a word', async () => {
  await simulator.must('POST', '/faults', { kind: 'drop', phone: ALICE })
  assert.ok([408, 428, 500].includes(await alice.whenClosed()))
})

test('a stalled connection stays open in silence, and catches up when the stall ends', async () => {
  const { id } = await simulator.must('POST', '/faults', { kind: 'stall', phone: BORIS })
  await alice.send(BORIS, 'during the stall')
  const pinged = boris.socket.query({
    tag: 'iq',
    attrs: { to: '@s.whatsapp.net', type: 'get', xmlns: 'w:p' },
    content: [{ tag: 'ping', attrs: {} }],
  })
  let answered = false
  pinged.then(() => (answered = true))
  await new Promise((resolve) => setTimeout(resolve, 300))
  assert.deepEqual([boris.state, answered, boris.received('during').length], ['open', false, 0])
  await simulator.must('DELETE', `/faults/${id}`)
  await eventually(() => answered && boris.received('during').length, 'what was held back')
})

for (const [kind, isAnswered] of [
  ['deaf', true],
  ['mute', false],
]) {
  test(`a ${kind} connection stays open and passes nothing${isAnswered ? ' but answers' : ''}; the next one hears`, async () => {
    await simulator.must('POST', '/faults', { kind, phone: BORIS })
    await alice.send(BORIS, `to the ${kind}`)
    let answered = false
    const ping = {
      tag: 'iq',
      attrs: { to: '@s.whatsapp.net', type: 'get', xmlns: 'w:p' },
      content: [{ tag: 'ping', attrs: {} }],
    }
    boris.socket
      .query(ping)
      .then(() => (answered = true))
      .catch(() => {})
    await new Promise((resolve) => setTimeout(resolve, 200))
    assert.deepEqual([boris.state, answered, boris.received(`to the ${kind}`).length], ['open', isAnswered, 0])
    await boris.disconnect()
    boris.connect()
    await boris.whenOpen()
    await eventually(() => boris.received(`to the ${kind}`).length === 1, 'what was kept for it')
  })
}

test('a delay holds every answer back by its milliseconds, in order', async () => {
  await simulator.must('POST', '/faults', { kind: 'delay', ms: 150, phone: BORIS })
  const from = Date.now()
  for (let index = 0; index < 5; index++) await alice.send(BORIS, `late ${index}`)
  await eventually(() => boris.received('late').length >= 5, 'the late messages')
  assert.ok(Date.now() - from >= 150)
  assert.deepEqual(boris.received('late'), ['late 0', 'late 1', 'late 2', 'late 3', 'late 4'])
})

test('refuse-login turns a client away with its reason, as often as its count says', async () => {
  await boris.disconnect()
  await simulator.must('POST', '/faults', { kind: 'refuse-login', reason: 403, phone: BORIS, count: 1 })
  boris.connect()
  assert.equal(await boris.whenClosed(), 403)
  boris.connect()
  await boris.whenOpen()
})

test('a malformed frame closes its own connection and no other', async () => {
  const socket = new WebSocket(simulator.url)
  await new Promise((resolve) => socket.addEventListener('open', resolve))
  const closed = new Promise((resolve) => socket.addEventListener('close', resolve))
  socket.send(Buffer.from('GET / HTTP/1.1\r\n\r\n'))
  await closed
  await alice.send(BORIS, 'still here')
  await eventually(() => boris.received('still here').length, 'a message of the others')
  assert.equal((await simulator.must('GET', '/stats')).malformed_frames, 1)
})
