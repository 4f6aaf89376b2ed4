/** What `useStandfastAuthState` promises to a Node bot. */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { initAuthCreds, proto } from 'baileys'
import libsignal from 'libsignal'
import { defaultSocketPath, useStandfastAuthState } from '../auth-state.mjs'
import { encodeValue } from '../lib/values.mjs'
import { FakeGateway, refusal, until } from './fake-gateway.mjs'

let directory
let count = 0
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'auth-'))
})
after(() => rm(directory, { recursive: true }))

async function newGateway(t) {
  const gateway = await new FakeGateway(join(directory, `${count++}.sock`)).start()
  gateway.clients = []
  t.after(async () => {
    await Promise.allSettled(gateway.clients.map((auth) => auth.close()))
    await gateway.stop().catch(() => {})
  })
  return gateway
}

async function opened(t, options = {}) {
  const gateway = options.gateway ?? (await newGateway(t))
  const auth = await useStandfastAuthState({ company: 'acme', socket: gateway.socketPath, pair: true, ...options })
  gateway.clients.push(auth)
  return { gateway, auth, keys: auth.state.keys }
}

function methods(gateway) {
  return gateway.calls.map((call) => call.method).filter((method) => method !== 'hello')
}

function keysOf(gateway) {
  return Object.fromEntries(gateway.company('acme').keys)
}

/** Makes the next call of `method` fail with `error`, once. */
function failOnce(gateway, method, error) {
  gateway.before = async (called) => {
    if (called !== method) return
    gateway.before = async () => {}
    throw error
  }
}

test('new creds are minted for a confirmed absence, created once and saved from then on', async (t) => {
  const { gateway, auth } = await opened(t)
  assert.ok(auth.state.creds.noiseKey.private.length === 32)
  assert.equal(gateway.company('acme').creds, null, 'nothing is stored before the first save')
  await auth.saveCreds()
  auth.state.creds.accountSyncCounter = 7
  await auth.saveCreds()
  assert.deepEqual(methods(gateway), ['auth.open', 'creds.create', 'creds.save'])
  assert.equal(gateway.company('acme').creds, encodeValue(auth.state.creds))
})

test('stored creds come back the same, bytes as Buffers', async (t) => {
  const gateway = await newGateway(t)
  const creds = initAuthCreds()
  gateway.company('acme').creds = JSON.stringify({ ...creds, legacy: { type: 'Buffer', data: [1, 2] } })
  const { auth } = await opened(t, { gateway, pair: false })
  assert.deepEqual(auth.state.creds.signedIdentityKey, {
    public: Buffer.from(creds.signedIdentityKey.public),
    private: Buffer.from(creds.signedIdentityKey.private),
  })
  assert.deepEqual(auth.state.creds.legacy, Buffer.from([1, 2]))
})

test('a read error, an absence without pairing and damaged creds reject and create nothing', async (t) => {
  const gateway = await newGateway(t)
  const open = (more) => useStandfastAuthState({ company: 'acme', socket: gateway.socketPath, pair: true, ...more })
  failOnce(gateway, 'auth.open', refusal('database_unavailable', 'PostgreSQL is away', true))
  await assert.rejects(open(), { code: 'database_unavailable', retryable: true })
  await assert.rejects(open({ pair: false }), { code: 'company_unknown' })
  gateway.company('acme').creds = '{"me":{}}'
  await assert.rejects(open(), { code: 'auth_state_corrupt' })
  await assert.rejects(open({ company: '../x' }), { code: 'usage' })
  assert.ok(!methods(gateway).some((method) => method.startsWith('creds.')))
  assert.equal(gateway.company('acme').creds, '{"me":{}}')
})

test('a missing service is a clear error after the time to connect', async () => {
  const options = { company: 'acme', socket: join(directory, 'none.sock'), connectTimeoutMs: 250 }
  await assert.rejects(useStandfastAuthState(options), { code: 'service_unavailable' })
})

test('a second holder is refused, and may open once the first has closed', async (t) => {
  const { gateway, auth } = await opened(t)
  await assert.rejects(opened(t, { gateway }), { code: 'company_in_use' })
  await auth.close()
  await opened(t, { gateway })
})

test('keys are stored in one batch, deleted by falsy values, and only existing ones are returned', async (t) => {
  const { gateway, keys } = await opened(t)
  await keys.set({ 'pre-key': { 1: { public: new Uint8Array([1]) } }, session: { 'a.0': { v: 1 }, 'b.0': { v: 2 } } })
  await keys.set({ session: { 'a.0': null, 'b.0': undefined }, unknown: { x: [1, 'two'] } })
  assert.deepEqual(methods(gateway), ['auth.open', 'keys.set', 'keys.set'])
  assert.deepEqual(keysOf(gateway), {
    'pre-key/1': '{"public":{"type":"Buffer","data":"AQ=="}}',
    'unknown/x': '[1,"two"]',
  })
  assert.deepEqual(await keys.get('session', ['a.0', 'b.0', 'c.0']), {})
  assert.deepEqual(await keys.get('pre-key', ['1', '2']), { 1: { public: Buffer.from([1]) } })
})

test('a pre-key is left to the gateway once it has it; that it is gone is remembered', async (t) => {
  const { gateway, keys } = await opened(t)
  const writing = keys.set({ 'pre-key': { 1: { n: 1 } }, session: { 'a.0': { v: 1 } } })
  assert.deepEqual(await keys.get('pre-key', ['1']), { 1: { n: 1 } })
  await writing
  for (let n = 0; n < 2; n++) assert.deepEqual(await keys.get('pre-key', ['1']), { 1: { n: 1 } })
  await keys.set({ 'pre-key': { 1: null } })
  assert.deepEqual(await keys.get('pre-key', ['1']), {})
  assert.deepEqual(methods(gateway), ['auth.open', 'keys.set', 'keys.get', 'keys.get', 'keys.set'])
})

test('app-state-sync-key comes back as the protobuf message that Baileys needs', async (t) => {
  const message = proto.Message.AppStateSyncKeyData.fromObject({
    keyData: Buffer.from('made up'),
    fingerprint: { rawId: 1, currentIndex: 2, deviceIndexes: [0, 1] },
    timestamp: 5,
  })
  const stored = [encodeValue(message), encodeValue({ ...message, fingerprint: { ...message.fingerprint } })]
  for (const text of stored) {
    const gateway = await newGateway(t)
    gateway.company('acme').keys.set('app-state-sync-key/AAAA', text)
    const { keys } = await opened(t, { gateway })
    const { AAAA } = await keys.get('app-state-sync-key', ['AAAA'])
    assert.ok(AAAA instanceof proto.Message.AppStateSyncKeyData)
    assert.deepEqual(Buffer.from(AAAA.keyData), Buffer.from('made up'))
    assert.equal(AAAA.fingerprint.currentIndex, 2)
  }
})

test('a failed get rejects and is not remembered as an absence', async (t) => {
  const { gateway, keys } = await opened(t)
  gateway.company('acme').keys.set('session/a.0', '{"v":1}')
  failOnce(gateway, 'keys.get', refusal('database_unavailable', 'away', true))
  await assert.rejects(keys.get('session', ['a.0']), { code: 'database_unavailable' })
  assert.deepEqual(await keys.get('session', ['a.0']), { 'a.0': { v: 1 } })
})

test('what was read or written, absences too, needs no second round trip', async (t) => {
  const { gateway, keys } = await opened(t)
  await keys.get('tctoken', ['gone'])
  await keys.set({ 'sender-key-memory': { g: { v: 1 } } })
  gateway.calls.length = 0
  for (let i = 0; i < 3; i++) {
    assert.deepEqual(await keys.get('tctoken', ['gone']), {})
    const { g: memory } = await keys.get('sender-key-memory', ['g'])
    assert.deepEqual(memory, { v: 1 })
    memory.v = 'changed by the reader'
  }
  assert.deepEqual(methods(gateway), [])
})

test('sessions are handed out uncopied, and libsignal changes none that it was handed', async (t) => {
  const { keys } = await opened(t)
  const record = new libsignal.SessionRecord()
  const bytes = (length) => Buffer.alloc(length, 7)
  const entry = libsignal.SessionRecord.createEntry()
  Object.assign(entry, {
    registrationId: 1,
    currentRatchet: {
      ephemeralKeyPair: { pubKey: bytes(33), privKey: bytes(32) },
      lastRemoteEphemeralKey: bytes(33),
      previousCounter: 0,
      rootKey: bytes(32),
    },
    indexInfo: { baseKey: bytes(33), baseKeyType: 1, closed: -1, used: 1, created: 1, remoteIdentityKey: bytes(33) },
  })
  entry.addChain(bytes(33), { messageKeys: { 3: bytes(32) }, chainKey: { counter: 4, key: bytes(32) }, chainType: 2 })
  record.setSession(entry)
  await keys.set({ session: { 'a.0': record.serialize() } })
  const handed = (await keys.get('session', ['a.0']))['a.0']
  const before = JSON.stringify(handed)
  const read = libsignal.SessionRecord.deserialize(handed)
  const chain = read.getOpenSession().getChain(bytes(33))
  chain.chainKey.counter = 99
  chain.chainKey.key.fill(0)
  delete chain.messageKeys[3]
  read.getOpenSession().currentRatchet.rootKey.fill(0)
  read.getOpenSession().indexInfo.closed = 5
  read.serialize()._sessions = null
  assert.equal(JSON.stringify(handed), before)
  assert.equal((await keys.get('session', ['a.0']))['a.0'], handed)
})

test('a batch that failed is not served, and its repetition never rolls back a newer one', async (t) => {
  const { gateway, keys } = await opened(t)
  await keys.set({ session: { 'a.0': { v: 0 } } })
  const first = { session: { 'a.0': { v: 1 }, 'b.0': { v: 1 } } }
  failOnce(gateway, 'keys.set', refusal('database_unavailable', 'away', true))
  const failed = assert.rejects(keys.set(first), { code: 'database_unavailable' })
  assert.deepEqual(await keys.get('session', ['a.0']), { 'a.0': { v: 1 } }, 'visible while under way')
  await failed
  assert.deepEqual(await keys.get('session', ['a.0', 'b.0']), { 'a.0': { v: 0 } })
  await keys.set({ session: { 'a.0': { v: 2 } } })
  await keys.set(first)
  assert.deepEqual(keysOf(gateway), { 'session/a.0': '{"v":2}', 'session/b.0': '{"v":1}' })
})

test('keys.clear empties store and copy', async (t) => {
  const { gateway, keys } = await opened(t)
  await keys.set({ session: { 'a.0': { v: 1 } } })
  await keys.clear()
  assert.deepEqual(keysOf(gateway), {})
  assert.deepEqual(await keys.get('session', ['a.0']), {})
})

test('saves are one at a time, and each promise waits for a save that has its state', async (t) => {
  const { gateway, auth } = await opened(t)
  await auth.saveCreds()
  const stored = []
  let running = 0
  gateway.before = async (method) => {
    assert.ok(method !== 'creds.save' || ++running === 1, 'two saves at once')
    await new Promise(setImmediate)
  }
  gateway.after = async (_, params) => {
    running--
    stored.push(params.creds.accountSyncCounter)
  }
  const saves = []
  for (let i = 1; i <= 100; i++) {
    auth.state.creds.accountSyncCounter = i
    saves.push(auth.saveCreds().then(() => assert.ok(stored.at(-1) >= i, `resolved before state ${i} was durable`)))
    if (i % 10 === 0) await new Promise(setImmediate)
  }
  await Promise.all(saves)
  assert.equal(stored.at(-1), 100)
  assert.ok(stored.length <= 12, `${stored.length} saves for 100 calls`)
})

test('a save that fails rejects, and is made up for without another call', async (t) => {
  const { gateway, auth } = await opened(t)
  await auth.saveCreds()
  auth.state.creds.accountSyncCounter = 41
  failOnce(gateway, 'creds.save', refusal('database_unavailable', 'away', true))
  await assert.rejects(auth.saveCreds(), { code: 'database_unavailable' })
  await until(() => gateway.company('acme').creds.includes('"accountSyncCounter":41'), 'the save made up for')
})

test('calls made while the gateway is away are sent in order once it is back', async (t) => {
  const { gateway, auth, keys } = await opened(t)
  await auth.saveCreds()
  await gateway.stop()
  const writes = []
  for (let i = 1; i <= 20; i++) {
    writes.push(keys.set({ session: { 'a.0': { v: i } } }))
    await new Promise(setImmediate)
  }
  const read = keys.get('session', ['never'])
  auth.state.creds.accountSyncCounter = 9
  const saved = auth.saveCreds()
  await gateway.start()
  await Promise.all([...writes, saved])
  assert.deepEqual(await read, {})
  const sets = gateway.calls
    .filter((call) => call.method === 'keys.set')
    .map((call) => call.params.data.session['a.0'].v)
  assert.deepEqual(
    sets,
    Array.from({ length: 20 }, (_, i) => i + 1),
  )
  assert.match(gateway.company('acme').creds, /"accountSyncCounter":9/)
})

test('a batch whose answer was lost is repeated and applied once more, without harm', async (t) => {
  const { gateway, keys, auth } = await opened(t)
  await auth.saveCreds()
  gateway.after = async (method) => {
    if (method !== 'keys.set') return
    gateway.after = async () => {}
    await gateway.stop()
    await gateway.start()
  }
  await keys.set({ session: { 'a.0': { v: 1 } } })
  assert.deepEqual(keysOf(gateway), { 'session/a.0': '{"v":1}' })
})

test('a creation whose answer was lost becomes a save of the same identity', async (t) => {
  const { gateway, auth } = await opened(t)
  gateway.after = async (method) => {
    if (method !== 'creds.create') return
    gateway.after = async () => {}
    await gateway.stop()
    await gateway.start()
  }
  await auth.saveCreds()
  assert.deepEqual(methods(gateway), ['auth.open', 'creds.create', 'auth.open', 'creds.save'])
})

test('copied keys are read anew after an interruption, in which another may have written', async (t) => {
  const { gateway, auth, keys } = await opened(t)
  await auth.saveCreds()
  await keys.set({ session: { 'a.0': { v: 1 } } })
  await gateway.stop()
  gateway.company('acme').keys.set('session/a.0', '{"v":"other"}')
  await gateway.start()
  await until(
    () => methods(gateway).filter((method) => method === 'auth.open').length === 2,
    'the company opened again',
  )
  await keys.set({ session: { 'z.0': { v: 1 } } })
  assert.deepEqual(await keys.get('session', ['a.0']), { 'a.0': { v: 'other' } })
})

test('another identity after an interruption ends the auth state for good', async (t) => {
  const { gateway, auth, keys } = await opened(t)
  await auth.saveCreds()
  await gateway.stop()
  const other = encodeValue(initAuthCreds())
  gateway.company('acme').creds = other
  await gateway.start()
  await assert.rejects(keys.set({ session: { 'a.0': { v: 1 } } }), { code: 'company_in_use', retryable: false })
  auth.state.creds.accountSyncCounter = 5
  await assert.rejects(auth.saveCreds(), { code: 'company_in_use' })
  assert.equal(gateway.company('acme').creds, other)
})

test('a gateway that stays away, and a database behind it that does, reject at the deadline', async (t) => {
  const { gateway, auth, keys } = await opened(t, { callTimeoutMs: 600 })
  await auth.saveCreds()
  await gateway.stop()
  await assert.rejects(keys.get('session', ['a.0']), { code: 'service_unavailable', retryable: true })
  gateway.before = async (method) => {
    if (method === 'auth.open') throw refusal('database_unavailable', 'PostgreSQL is away', true)
  }
  await gateway.start()
  await until(() => methods(gateway).length > 2, 'an attempt')
  await assert.rejects(keys.get('session', ['a.0']), { code: 'database_unavailable', message: 'PostgreSQL is away' })
})

test('close waits for writes under way, gives the company back, and refuses later use', async (t) => {
  const { gateway, auth, keys } = await opened(t)
  gateway.before = () => new Promise((resolve) => setTimeout(resolve, 20))
  const write = keys.set({ session: { 'a.0': { v: 1 } } })
  const saved = auth.saveCreds()
  await auth.close()
  await Promise.all([write, saved])
  assert.deepEqual(methods(gateway).sort(), ['auth.close', 'auth.open', 'creds.create', 'keys.set'])
  assert.equal(gateway.holders.size, 0)
  await assert.rejects(keys.get('session', ['a.0']), { code: 'session_not_open' })
  await assert.rejects(keys.set({ session: { 'a.0': null } }), { code: 'session_not_open' })
})

test('close does not wait for a gateway that is away', async (t) => {
  const { gateway, auth } = await opened(t)
  await auth.saveCreds()
  await gateway.stop()
  const started = performance.now()
  await auth.close()
  assert.ok(performance.now() - started < 2_000)
})

test('a batch that changes nothing is not sent again', async (t) => {
  const { gateway, keys } = await opened(t)
  const step = { session: { 'a.0': { v: 1 } }, 'sender-key': { g: Buffer.from('made up') } }
  await keys.set(step)
  await keys.set({ ...step, 'sender-key-memory': { g: { x: true } } })
  await keys.set({ ...step, 'sender-key': { g: Buffer.from('made up') } })
  const sets = gateway.calls.filter((call) => call.method === 'keys.set').map((call) => call.params.data)
  assert.deepEqual(sets.map(Object.keys), [['session', 'sender-key'], ['sender-key-memory']])
})

test('the socket is found by the rules of the service', () => {
  assert.equal(defaultSocketPath({ STANDFAST_SOCKET: '/s', STANDFAST_STATE_DIR: '/d' }), '/s')
  assert.equal(defaultSocketPath({ STANDFAST_STATE_DIR: '/d' }), '/d/gateway.sock')
  assert.equal(defaultSocketPath({ XDG_STATE_HOME: '/x' }), '/x/standfast/gateway.sock')
  assert.match(defaultSocketPath({}), /\/\.local\/state\/standfast\/gateway\.sock$/)
})

test('quietSignal silences libsignal, and nothing else', () => {
  const script = `
    import { muteConsole } from './lib/quiet-console.mjs'
    import libsignal from 'libsignal'
    if (process.argv[1] === 'quiet') muteConsole({ onlyFrom: 'libsignal' })
    new libsignal.SessionRecord().closeSession({ indexInfo: { closed: -1 }, secret: 'private' })
    console.log('the bot speaks')`
  const run = (how) =>
    spawnSync(process.execPath, ['--input-type=module', '-e', script, how], {
      cwd: new URL('..', import.meta.url),
      encoding: 'utf8',
    })
  assert.match(run('loud').stdout, /private/, 'libsignal still prints: the test means something')
  assert.equal(run('quiet').stdout, 'the bot speaks\n')
})
