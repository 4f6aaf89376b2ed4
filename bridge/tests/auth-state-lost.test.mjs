/** What a Node bot's auth state does when the company is lost, and when it was away for a while. */

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { initAuthCreds } from 'baileys'
import { useStandfastAuthState } from '../auth-state.mjs'
import { openCompanyAuth } from '../lib/company-auth.mjs'
import { KeyMirror } from '../lib/key-mirror.mjs'
import { encodeValue } from '../lib/values.mjs'
import { FakeGateway, refusal, until } from './fake-gateway.mjs'

const TAKEN = refusal('company_in_use', 'the node other has taken it over')
const HELD = Object.assign(refusal('company_in_use', 'held by the node other'), { facts: { holder: 'other' } })
let directory
let count = 0
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'lost-'))
})
after(() => rm(directory, { recursive: true }))

/** A bot whose company has creds and the session a.0; what it loses is in `losses`. */
async function opened(t) {
  const gateway = await new FakeGateway(join(directory, `${count++}.sock`)).start()
  const stored = gateway.company('acme')
  stored.creds = encodeValue(initAuthCreds())
  stored.keys.set('session/a.0', '{"v":1}')
  const losses = []
  const onLost = (error) => losses.push(error)
  const auth = await useStandfastAuthState({ company: 'acme', socket: gateway.socketPath, onLost })
  t.after(async () => {
    await auth.close()
    await gateway.stop().catch(() => {})
  })
  return { gateway, auth, keys: auth.state.keys, losses, stored: stored.keys }
}

const calls = (gateway, method) => gateway.calls.filter((call) => call.method === method).length
const lost = (losses) => until(() => losses.length > 0, 'word of the loss')

async function interrupted(gateway, meanwhile) {
  const opens = calls(gateway, 'auth.open')
  await gateway.stop()
  meanwhile()
  await gateway.start()
  return () => until(() => calls(gateway, 'auth.open') > opens, 'the company opened again')
}

test('a lost company is served from nowhere: not from the copy, not to writes, and never again', async (t) => {
  const { gateway, auth, keys, losses, stored } = await opened(t)
  await keys.get('session', ['a.0'])
  gateway.revoke('acme', TAKEN)
  await lost(losses)
  assert.deepEqual([losses[0].code, losses[0].message, losses[0].retryable], [TAKEN.code, TAKEN.message, false])
  const refused = { code: 'company_in_use', message: TAKEN.message }
  await assert.rejects(keys.get('session', ['a.0']), refused)
  await assert.rejects(keys.set({ session: { 'a.0': { v: 1 } } }), refused)
  await assert.rejects(keys.set({ session: { 'a.0': { v: 2 } } }), refused)
  await assert.rejects(keys.clear(), refused)
  auth.state.creds.accountSyncCounter = 3
  await assert.rejects(auth.saveCreds(), refused)
  await until(() => gateway.peers.size === 0, 'the end of the connection')
  await auth.close()
  assert.deepEqual([calls(gateway, 'auth.open'), calls(gateway, 'keys.set'), calls(gateway, 'creds.save')], [1, 0, 0])
  assert.equal(stored.get('session/a.0'), '{"v":1}')
  assert.equal(losses.length, 1)
})

test('what is under way when the company is lost is not pretended to have been done', async (t) => {
  const { gateway, keys, losses } = await opened(t)
  gateway.before = async (method) => (method.startsWith('keys.') ? 'silence' : undefined)
  const read = assert.rejects(keys.get('session', ['a.0']), { code: 'company_in_use' })
  const write = assert.rejects(keys.set({ session: { 'b.0': { v: 1 } } }), { code: 'company_in_use' })
  await until(() => calls(gateway, 'keys.set') === 1, 'both to be asked')
  gateway.revoke('acme', TAKEN)
  await lost(losses)
  await Promise.all([read, write])
})

test('the answer to a read that the loss has overtaken is the loss', async () => {
  const creds = JSON.parse(encodeValue(initAuthCreds()))
  let answer
  const call = (method) => (method === 'auth.open' ? { creds } : new Promise((resolve) => (answer = resolve)))
  const auth = await openCompanyAuth({ call: async (method) => call(method) }, { company: 'acme' })
  const read = assert.rejects(auth.keys.get('session', ['a.0']), TAKEN)
  await until(() => answer, 'the read to be asked')
  auth.abandon(TAKEN)
  answer({ 'a.0': { v: 1 } })
  await read
})

test('a company that another node holds when the service is back is lost', async (t) => {
  const { gateway, keys, losses } = await opened(t)
  const back = await interrupted(gateway, () => {
    gateway.before = async (method) => {
      if (method === 'auth.open') throw HELD
    }
  })
  await back()
  await lost(losses)
  await assert.rejects(keys.get('session', ['a.0']), { code: 'company_in_use', message: HELD.message })
  assert.equal(calls(gateway, 'auth.open'), 2)
})

test('a former connection that still holds the company is waited for, and closing is no loss', async (t) => {
  const { gateway, auth, keys, losses } = await opened(t)
  let refusals = 2
  const back = await interrupted(gateway, () => {
    gateway.before = async (method) => {
      if (method === 'auth.open' && refusals-- > 0) throw refusal('company_in_use', 'held by another client')
    }
  })
  await back()
  assert.deepEqual(await keys.get('session', ['a.0']), { 'a.0': { v: 1 } })
  await auth.close()
  await assert.rejects(keys.get('session', ['a.0']), { code: 'session_not_open' })
  await until(() => gateway.peers.size === 0, 'the end of the connection')
  assert.deepEqual(losses, [])
})

for (const other of [true, false]) {
  test(`a write without answer ${other ? 'does not come on top of what another client wrote' : 'is sent again'}`, async (t) => {
    const { gateway, keys, stored } = await opened(t)
    gateway.before = async (method) => (method === 'keys.set' ? 'silence' : undefined)
    const write = keys.set({ session: { 'a.0': { v: 2 } } })
    const settled = other ? assert.rejects(write, { code: 'company_in_use' }) : write
    await until(() => calls(gateway, 'keys.set') === 1, 'the write to be asked')
    const back = await interrupted(gateway, () => {
      gateway.before = async () => {}
      if (other) gateway.company('acme').client = 'another'
      if (other) stored.set('session/a.0', '{"v":3}')
    })
    await back()
    await settled
    assert.deepEqual(await keys.get('session', ['a.0']), { 'a.0': { v: other ? 3 : 2 } })
    assert.equal(calls(gateway, 'keys.set'), other ? 1 : 2)
  })
}

test('a service that comes back without its database is waited for; writes go on once it serves', async (t) => {
  const { gateway, keys, losses, stored } = await opened(t)
  await keys.get('session', ['a.0'])
  const obstacles = [
    refusal('database_unavailable', 'PostgreSQL does not answer', true),
    refusal('grace_expired', 'PostgreSQL has been away for 400 s', true),
  ]
  const back = await interrupted(gateway, () => {
    gateway.before = async (method) => {
      const obstacle = method === 'auth.open' && obstacles.shift()
      if (obstacle) throw obstacle
    }
  })
  const write = keys.set({ session: { 'a.0': { v: 2 } } })
  await back()
  await write
  assert.equal(stored.get('session/a.0'), '{"v":2}')
  assert.deepEqual(losses, [])
})

test('after an interruption nothing is believed any more, neither values nor absences', async (t) => {
  const { gateway, keys, stored } = await opened(t)
  assert.deepEqual(await keys.get('session', ['a.0', 'absent.0']), { 'a.0': { v: 1 } })
  const back = await interrupted(gateway, () => {
    for (const id of ['a.0', 'absent.0']) stored.set(`session/${id}`, '{"v":"other"}')
  })
  await back()
  await keys.set({ session: { 'z.0': { v: 1 } } })
  const others = { 'a.0': { v: 'other' }, 'absent.0': { v: 'other' } }
  assert.deepEqual(await keys.get('session', ['a.0', 'absent.0']), others)
})

test('a read from before an interruption is not remembered, and a write that goes on through it is', async () => {
  const answers = []
  const stores = []
  const mirror = new KeyMirror({
    fetch: () => new Promise((resolve) => answers.push(resolve)),
    store: () => new Promise((resolve) => stores.push(resolve)),
  })
  const early = mirror.get('session', ['a.0'])
  const write = mirror.set({ session: { 'b.0': { v: 2 } } })
  await until(() => stores.length === 1, 'the write to be sent')
  mirror.reset()
  answers.shift()({ 'a.0': { v: 'old' } })
  stores.shift()()
  await Promise.all([early, write])
  assert.deepEqual(await mirror.get('session', ['b.0']), { 'b.0': { v: 2 } })
  const late = mirror.get('session', ['a.0'])
  await until(() => answers.length === 1, 'the key to be asked for again')
  answers.shift()({ 'a.0': { v: 'new' } })
  assert.deepEqual(await late, { 'a.0': { v: 'new' } })
})
