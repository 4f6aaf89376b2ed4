/** What the wire, its frames and its values promise. */

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { BufferJSON, Curve } from 'baileys'
import { FrameSplitter } from '../lib/frames.mjs'
import { encodeValue, reviveBuffers } from '../lib/values.mjs'
import { connectWire } from '../lib/wire.mjs'
import { FakeGateway, refusal, until } from './fake-gateway.mjs'

let directory
let count = 0
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'wire-'))
})
after(() => rm(directory, { recursive: true }))

function socketPath() {
  return join(directory, `${count++}.sock`)
}

async function gatewayAndWire(t, options = {}, gatewayOptions = {}) {
  const gateway = await new FakeGateway(socketPath(), gatewayOptions).start()
  t.after(() => gateway.stop())
  const wire = await connectWire({ socketPath: gateway.socketPath, role: 'auth-state', client: 'test/1', ...options })
  t.after(() => wire.close())
  return { gateway, wire }
}

/** A peer that answers each frame with what `answer` returns, byte for byte. */
async function rawPeer(t, answer) {
  const path = socketPath()
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.on('data', (data) => {
      for (const line of data.toString().split('\n').filter(Boolean)) {
        const reply = answer(JSON.parse(line), socket)
        if (reply) socket.write(reply)
      }
    })
    t.after(() => socket.destroy())
  })
  await new Promise((resolve) => server.listen(path, resolve))
  t.after(() => server.close())
  return path
}

const helloAnswer = (frame) => frame.method === 'hello' && `{"id":${frame.id},"result":{"protocol":1}}\n`

test('frames come out whole however the stream is cut', () => {
  const lines = ['{"a":1}', JSON.stringify({ text: 'é€𝄞'.repeat(50) }), '', 'x'.repeat(5000)]
  const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''))
  for (const size of [1, 2, 7, 4096, bytes.length]) {
    const splitter = new FrameSplitter(10_000)
    const frames = []
    for (let i = 0; i < bytes.length; i += size) frames.push(...splitter.push(bytes.subarray(i, i + size)))
    assert.deepEqual(frames, lines)
  }
})

test('a 16 MB frame in 64 KB chunks takes linear time', () => {
  const chunk = Buffer.alloc(64 * 1024, 0x61)
  const splitter = new FrameSplitter(17 * 1024 * 1024)
  const started = performance.now()
  for (let i = 0; i < 256; i++) assert.equal(splitter.push(chunk).length, 0)
  assert.equal(splitter.push(Buffer.from('\n'))[0].length, 16 * 1024 * 1024)
  assert.ok(performance.now() - started < 1_000)
})

test('a frame over the limit is refused before its end arrives', () => {
  const splitter = new FrameSplitter(100)
  assert.throws(() => splitter.push(Buffer.alloc(101, 0x61)), RangeError)
})

test('bytes are written as Baileys writes them and come back as Buffers', () => {
  const value = { pair: Curve.generateKeyPair(), plain: new Uint8Array([5, 0, 255]), list: [Buffer.from('x')], n: 1.5 }
  assert.equal(encodeValue(value), JSON.stringify(value, BufferJSON.replacer))
  const back = reviveBuffers(JSON.parse(encodeValue(value)))
  assert.ok(Buffer.isBuffer(back.plain))
  assert.deepEqual([...back.plain], [5, 0, 255])
  assert.deepEqual(back.pair.private, Buffer.from(value.pair.private))
  assert.ok(value.plain.constructor === Uint8Array, 'the input is not changed')
  assert.deepEqual(reviveBuffers(JSON.parse(encodeValue(new Uint8Array([1, 2])))), Buffer.from([1, 2]))
})

test('every legacy form of bytes is read', () => {
  const bytes = Buffer.from([5, 0, 200])
  const forms = [
    { type: 'Buffer', data: bytes.toString('base64') },
    { type: 'Buffer', data: bytes.toString('base64url') },
    { type: 'Buffer', data: [5, 0, 200] },
    { type: 'Buffer', value: bytes.toString('base64') },
    { type: 'Buffer', data: { 0: 5, 1: 0, 2: 200 } },
    { 0: 5, 1: 0, 2: 200 },
  ]
  for (const form of forms) assert.deepEqual(reviveBuffers(structuredClone(form)), bytes, JSON.stringify(form))
  assert.deepEqual(encodeValue({ k: bytes.toJSON() }), encodeValue({ k: bytes }))
})

test('records that only look like bytes stay records', () => {
  const records = [{ 0: 256 }, { 1: 5 }, { 0: 'a' }, { 0: 1, x: 2 }, {}, { 10: 1, 11: 2 }, { '7999@s': true }]
  for (const record of records) assert.deepEqual(reviveBuffers(structuredClone(record)), record)
})

test('requests are answered in any order, each to its caller', async (t) => {
  const { gateway, wire } = await gatewayAndWire(t)
  await wire.request('auth.open', { company: 'a', pair: true })
  gateway.before = async (_, params) => {
    if (params.ids?.[0] === 'slow') await until(() => gateway.calls.some((c) => c.params.ids?.[0] === 'q'), 'q')
  }
  gateway.company('b')
  await wire.request('auth.open', { company: 'b', pair: true })
  const order = []
  const note = (name) => () => order.push(name)
  await Promise.all([
    wire.request('keys.get', { company: 'a', type: 't', ids: ['slow'] }).then(note('slow')),
    wire.request('keys.get', { company: 'b', type: 't', ids: ['q'] }).then(note('quick')),
  ])
  assert.deepEqual(order, ['quick', 'slow'])
})

test('no more requests than the limit are in flight, and all are answered', async (t) => {
  const { gateway, wire } = await gatewayAndWire(t, {}, { limits: { frame_bytes: 1 << 20, in_flight: 3 } })
  await wire.request('auth.open', { company: 'a', pair: true })
  const answers = Array.from({ length: 50 }, () => wire.request('keys.get', { company: 'a', type: 't', ids: [] }))
  assert.equal((await Promise.all(answers)).length, 50)
  assert.equal(gateway.mostUnanswered, 3)
})

test('an error keeps code, next step, retryable and facts', async (t) => {
  const { gateway, wire } = await gatewayAndWire(t)
  gateway.before = async () => {
    throw Object.assign(refusal('database_unavailable', 'PostgreSQL is away', true), { facts: { attempts: 3 } })
  }
  await assert.rejects(wire.request('keys.get', { company: 'a' }), (error) => {
    const { code, message, nextStep, retryable, facts } = error
    assert.deepEqual(
      { code, message, nextStep, retryable, facts },
      {
        code: 'database_unavailable',
        message: 'PostgreSQL is away',
        nextStep: 'made-up next step',
        retryable: true,
        facts: { attempts: 3 },
      },
    )
    return true
  })
})

test('an unanswered request ends at its deadline, a lost connection ends all at once', async (t) => {
  const { gateway, wire } = await gatewayAndWire(t)
  gateway.before = async () => 'silence'
  await assert.rejects(wire.request('keys.get', {}, { timeoutMs: 50 }), { code: 'service_unavailable' })
  const pending = wire.request('keys.get', {})
  const refused = assert.rejects(pending, { code: 'service_unavailable', retryable: true })
  await until(() => gateway.calls.length >= 3, 'the request')
  await gateway.stop()
  await refused
  await wire.closed
  await assert.rejects(wire.request('keys.get', {}), { code: 'service_unavailable' })
  await gateway.start()
})

test('requests and notifications from the gateway reach their handlers, and failures come back as errors', async (t) => {
  const notes = []
  const { gateway } = await gatewayAndWire(t, {
    role: 'host',
    token: 'made-up-token',
    onNotification: (method, params) => notes.push([method, params]),
    onRequest: async (method) => {
      if (method === 'host.stats') return { pid: 1 }
      throw new Error('call 79990000001 failed')
    },
  })
  const host = await gateway.host()
  host.send({ method: 'note', params: { x: 1 } })
  assert.deepEqual(await host.request('host.stats', {}), { pid: 1 })
  await assert.rejects(host.request('other', {}), (error) => {
    assert.equal(error.code, 'internal')
    assert.ok(!error.message.includes('79990000001'), 'phone numbers do not leave in errors')
    return true
  })
  assert.deepEqual(notes, [['note', { x: 1 }]])
})

test('an own frame over the limit is refused here and the connection goes on', async (t) => {
  const { wire } = await gatewayAndWire(t, {}, { limits: { frame_bytes: 5_000, in_flight: 8 } })
  await assert.rejects(wire.request('keys.get', { pad: 'é'.repeat(3_000) }), { code: 'protocol' })
  assert.equal((await wire.request('auth.open', { company: 'a', pair: true })).creds, null)
})

test('malformed, oversized and refusing peers end the connection with code protocol', async (t) => {
  const answers = ['{"id":\n', '5\n', '{"id":null,"error":{"code":"protocol","message":"bad frame"}}\n']
  for (const answer of answers) {
    const path = await rawPeer(t, (frame) => helloAnswer(frame) || answer)
    const wire = await connectWire({ socketPath: path, role: 'auth-state', client: 'test/1' })
    await assert.rejects(wire.request('keys.get', {}), { code: 'protocol' })
    assert.equal((await wire.closed).code, 'protocol')
  }
})

test('no listener, a silent listener and a wrong token each give a clear error', async (t) => {
  const missing = socketPath()
  await assert.rejects(connectWire({ socketPath: missing, role: 'host', client: 'x' }), (error) => {
    assert.equal(error.code, 'service_unavailable')
    assert.match(error.message, /ENOENT/)
    assert.match(error.nextStep, /standfast up/)
    return true
  })
  const silent = await rawPeer(t, () => null)
  const quick = { socketPath: silent, role: 'host', client: 'x', connectTimeoutMs: 50 }
  await assert.rejects(connectWire(quick), { code: 'service_unavailable' })
  const { gateway } = await gatewayAndWire(t)
  const wrong = { socketPath: gateway.socketPath, role: 'host', client: 'x', token: 'wrong' }
  await assert.rejects(connectWire(wrong), (error) => {
    assert.equal(error.code, 'protocol')
    assert.ok(!error.message.includes('made-up-token'))
    return true
  })
})
