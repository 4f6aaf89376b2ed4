/** Promises about pairing, login and what survives a restart of the simulator; real Baileys on the other side. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { BufferJSON } from 'baileys'
import { TestClient } from '../simulator/testing/client.mjs'
import { eventually, SimulatorProcess } from '../simulator/testing/harness.mjs'

let simulator
const clients = []
const client = (phone, options) => {
  const made = new TestClient(simulator, phone, options)
  clients.push(made)
  return made
}
const paired = async (phone) => {
  const made = await TestClient.paired(simulator, phone)
  clients.push(made)
  return made
}

before(async () => (simulator = await SimulatorProcess.temporary()))
after(async () => {
  await Promise.all(clients.map((made) => made.disconnect()))
  await simulator.remove()
})

/** Asks for a pairing code as soon as the connection can carry it. */
async function requestCode(made) {
  made.connect()
  await eventually(() => made.qr, 'the connection is ready')
  return made.socket.requestPairingCode(made.phone)
}

test('a client is paired by the phone scanning its QR, restarts on 515 and logs in', async () => {
  const made = client('79990000001').connect()
  const qr = await eventually(() => made.qr, 'a QR')
  assert.match(qr, /^https:\/\/wa\.me\/settings\/linked_devices#/)
  const { clients: waiting } = await simulator.must('GET', '/pairings')
  assert.ok(waiting[0].refs_outstanding >= 2)
  const device = await simulator.must('POST', '/scan', { qr, phone: made.phone })
  assert.deepEqual(device, { phone: made.phone, device: 1, jid: '79990000001:1@s.whatsapp.net' })
  await made.whenOpen()
  assert.deepEqual(made.codes, [515])
  assert.equal(made.creds.me.id, device.jid)
  assert.match(made.creds.me.lid, /^\d+:1@lid$/)
})

test('the QR of one client does not pair another phone twice, and an unknown QR is refused', async () => {
  const { status, body } = await simulator.call('POST', '/scan', { qr: 'nonsense,a,b,c', phone: '79990000002' })
  assert.equal(status, 404)
  assert.equal(body.error.code, 'unknown_qr')
})

test('a client is paired by a code typed in the phone', async () => {
  const made = client('79990000003')
  const code = await requestCode(made)
  const { codes } = await eventually(async () => {
    const pairings = await simulator.must('GET', '/pairings')
    return pairings.codes.length && pairings
  }, 'a pending code')
  assert.equal(codes[0].phone, made.phone)
  assert.ok(!JSON.stringify(codes).includes(code))
  const device = await simulator.must('POST', '/enter-code', {
    phone: made.phone,
    code: `${code.slice(0, 4)}-${code.slice(4)}`,
  })
  assert.equal(device.device, 1)
  await made.whenOpen()
  assert.ok(made.creds.registered)
})

test('a wrong code is refused and the right one still works afterwards', async () => {
  const made = client('79990000004')
  const code = await requestCode(made)
  await eventually(async () => (await simulator.must('GET', '/pairings')).codes.length, 'a pending code')
  const wrong = await simulator.call('POST', '/enter-code', {
    phone: made.phone,
    code: code === 'ABCDEFGH' ? 'HGFEDCBA' : 'ABCDEFGH',
  })
  assert.equal(wrong.status, 422)
  assert.equal(wrong.body.error.code, 'wrong_code')
  await simulator.must('POST', '/enter-code', { phone: made.phone, code })
  await made.whenOpen()
})

test('the server can refuse a pairing code before it is shown', async () => {
  await simulator.must('POST', '/faults', { kind: 'refuse-pairing-code', code: 429, count: 1 })
  const made = client('79990000005')
  made.connect()
  await eventually(() => made.qr, 'the connection is ready')
  const answers = []
  made.socket.ws.on('CB:iq,type:error', (node) => answers.push(node.content[0].attrs.code))
  await made.socket.requestPairingCode(made.phone)
  await eventually(() => answers.length, 'the refusal')
  assert.deepEqual(answers, ['429'])
  assert.equal((await simulator.call('POST', '/enter-code', { phone: made.phone, code: 'ABCDEFGH' })).status, 404)
})

test('a phone may link several devices, each with its own number', async () => {
  const [one, two] = [await paired('79990000006'), await paired('79990000006')]
  assert.deepEqual(
    [one, two].map((made) => made.creds.me.id),
    ['79990000006:1@s.whatsapp.net', '79990000006:2@s.whatsapp.net'],
  )
  const { devices } = await simulator.must('GET', '/phones/79990000006/devices')
  assert.deepEqual(
    devices.map(({ device, online }) => [device, online]),
    [
      [1, true],
      [2, true],
    ],
  )
})

test('a second login of a device evicts the first with 440', async () => {
  const made = await paired('79990000007')
  const second = client(made.phone)
  second.creds = JSON.parse(JSON.stringify(made.creds, BufferJSON.replacer), BufferJSON.reviver)
  second.values = made.values
  second.connect()
  assert.equal(await made.whenClosed(), 440)
  await second.whenOpen()
})

test('a device that the user removes is logged out with 401 at once and refused afterwards', async () => {
  const made = await paired('79990000008')
  await simulator.must('POST', '/phones/79990000008/unlink', { device: 1 })
  assert.equal(await made.whenClosed(), 401)
  made.connect()
  assert.equal(await made.whenClosed(), 401)
  assert.deepEqual((await simulator.must('GET', '/phones/79990000008/devices')).devices, [])
})

test('a client that logs out removes its own device', async () => {
  const made = await paired('79990000009')
  await made.socket.logout()
  await eventually(
    async () => !(await simulator.must('GET', '/phones/79990000009/devices')).devices.length,
    'no device left',
  )
})

test('the right device with another noise key is refused', async () => {
  const made = await paired('79990000010')
  await made.disconnect()
  const thief = client(made.phone)
  thief.creds = { ...thief.creds, me: made.creds.me }
  thief.connect()
  assert.equal(await thief.whenClosed(), 401)
})

test('after a restart and after SIGKILL every paired client logs in again without pairing', async () => {
  const made = await paired('79990000011')
  for (const signal of ['SIGTERM', 'SIGKILL']) {
    const { code, ms } = await simulator.kill(signal)
    if (signal === 'SIGTERM') assert.deepEqual([code, ms < 1_000], [0, true])
    await made.whenClosed()
    await simulator.start()
    made.qr = null
    made.connect()
    await made.whenOpen()
    assert.equal(made.qr, null)
  }
})
