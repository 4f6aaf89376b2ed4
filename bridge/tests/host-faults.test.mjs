/** What the session host promises when something falls: WhatsApp, the gateway, the parent, or its own code. */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { refusal, until } from './fake-gateway.mjs'
import { world } from './host-harness.mjs'

const ANNA = '79990000001'
const BORIS = '79990000002'
const HOST = fileURLToPath(new URL('../host.mjs', import.meta.url))

async function pairOfCompanies(t) {
  const w = await world(t)
  await w.paired('anna', ANNA)
  await w.paired('boris', BORIS)
  return w
}

async function elapsedMs(promise) {
  const started = performance.now()
  return { value: await promise, ms: performance.now() - started }
}

test('the end of a socket is reported once, with the code it ended with, and the company is given back', async (t) => {
  const w = await world(t)
  await w.paired('anna', ANNA)
  for (const code of [503, 440, 401]) {
    await w.admin('POST', '/faults', { kind: 'close', code, phone: ANNA, count: 1 })
    assert.equal((await w.event('anna', 'closed')).status, code)
    assert.equal(w.gateway.holders.size, 0)
    await w.opened('anna')
  }
  const ends = w.gateway.events.filter((e) => e.kind === 'closed').map((e) => e.generation)
  assert.deepEqual(ends, [1, 2, 3, 4])
})

test('connections that drop under chat lose nothing and repeat nothing', async (t) => {
  const w = await pairOfCompanies(t)
  const texts = Array.from({ length: 60 }, (_, i) => `drop ${i}`)
  const sending = (async () => {
    for (const text of texts) await w.send('anna', BORIS, text)
  })()
  for (let round = 1; round <= 3; round++) {
    await until(() => w.texts('boris').length >= round * 12, `${round * 12} messages`)
    await w.admin('POST', '/faults', { kind: 'drop', phone: BORIS, count: 1 })
    await w.event('boris', 'closed')
    await w.opened('boris')
  }
  await sending
  const got = await w.received('boris', texts)
  assert.deepEqual([...new Set(got)].length, got.length, 'none twice')
  assert.deepEqual([...got].sort(), [...texts].sort())
})

test('a server that no longer answers does not hold up a stop', async (t) => {
  const w = await world(t)
  await w.paired('anna', ANNA)
  await w.admin('POST', '/faults', { kind: 'stall', phone: ANNA })
  const { ms } = await elapsedMs(w.stop('anna'))
  assert.ok(ms < 4_000, `${ms} ms`)
  await w.event('anna', 'closed')
})

test('without its gateway the host ends within two seconds, and under chat nothing is lost', async (t) => {
  const w = await pairOfCompanies(t)
  const early = Array.from({ length: 10 }, (_, i) => `early ${i}`)
  await Promise.all(early.map((text) => w.send('anna', BORIS, text)))
  await w.received('boris', early)
  const sends = Promise.allSettled(Array.from({ length: 20 }, (_, i) => w.send('anna', BORIS, `during ${i}`)))
  await w.gateway.stop()
  const { value: code, ms } = await elapsedMs(w.child.exited)
  assert.equal(code, 9)
  assert.ok(ms < 2_000, `${ms} ms`)
  const during = (await sends).flatMap(({ status }, i) => (status === 'fulfilled' ? [`during ${i}`] : []))
  await w.gateway.start()
  await w.startHost()
  await Promise.all([w.opened('anna'), w.opened('boris')])
  await w.send('anna', BORIS, 'after')
  await w.send('boris', ANNA, 'answer')
  await w.received('anna', ['answer'])
  await until(() => w.texts('boris').includes('after'), 'the message after')
  for (const text of during) assert.ok(w.texts('boris').includes(text), text)
  const messages = w.gateway.events.filter((e) => e.kind === 'message').map((e) => e.message)
  const ids = new Set(messages.map((message) => message.id))
  assert.equal(ids.size, new Set(messages.map((message) => message.text)).size, 'one id for each message')
  // The host may end between a message's event and its receipt. The service knows that one by its id, the fake does not.
  assert.ok(messages.length - ids.size <= 1, 'no other repeated')
})

test('the host ends with its parent, and in order when it is told to', async (t) => {
  const w = await world(t)
  await w.paired('anna', ANNA)
  w.child.stdin.end()
  const orphan = await elapsedMs(w.child.exited)
  assert.equal(orphan.value, 0)
  assert.ok(orphan.ms < 2_000)
  await w.startHost()
  await w.opened('anna')
  w.gateway.calls.length = 0
  assert.equal(await w.peer.request('host.shutdown', {}), null)
  assert.equal(await w.child.exited, 0)
  assert.ok(w.gateway.calls.some((call) => call.method === 'auth.close'))
  await w.event('anna', 'closed')
})

test('auth state that is refused is an error event and then the end, and mints nothing', async (t) => {
  const w = await world(t)
  await w.start('anna')
  assert.equal((await w.event('anna', 'error')).error.code, 'company_unknown')
  await w.event('anna', 'closed')
  w.gateway.before = async (method) => {
    if (method === 'auth.open') throw refusal('database_unavailable', 'PostgreSQL is away', true)
  }
  await w.start('anna', { by: 'qr' })
  const { error } = await w.event('anna', 'error')
  assert.deepEqual([error.code, error.retryable], ['database_unavailable', true])
  await w.event('anna', 'closed')
  assert.equal(w.gateway.company('anna').creds, null)
})

test('a socket whose writes are refused for good is ended; one whose writes fail for a while goes on', async (t) => {
  const w = await pairOfCompanies(t)
  let failures = 2
  w.gateway.before = async (method) => {
    if (method === 'keys.set' && failures-- > 0) throw refusal('database_unavailable', 'away', true)
  }
  await w.send('anna', BORIS, 'through')
  await w.received('boris', ['through'])
  w.gateway.before = async (method) => {
    if (method === 'keys.set') throw refusal('company_in_use', 'fenced off')
  }
  await assert.rejects(w.send('anna', BORIS, 'not through'))
  assert.ok(w.gateway.events.some((e) => e.kind === 'error' && e.error.code === 'company_in_use'))
  await w.event('anna', 'closed')
})

test('a company that was lost ends its socket at once: no logout, nothing written, nothing taken from the next owner', async (t) => {
  const w = await pairOfCompanies(t)
  await w.send('anna', BORIS, 'before')
  await w.received('boris', ['before'])
  const device = async () => (await w.admin('GET', `/phones/${BORIS}/devices`)).devices.at(-1)
  // A receipt leaves after its message was taken.
  await until(async () => (await device()).queued === 0, 'the receipt of the first message', 5_000)
  w.gateway.calls.length = 0
  const { ms } = await elapsedMs(
    Promise.all([
      w.gateway.revoke('boris', refusal('company_in_use', 'the node other has taken it over')),
      w.event('boris', 'closed'),
    ]),
  )
  assert.ok(ms < 1_000, `${ms} ms`)
  const { error } = await w.event('boris', 'error')
  assert.deepEqual([error.code, error.message], ['company_in_use', 'the node other has taken it over'])
  await until(async () => !(await device()).online, 'the end of the socket', 1_000)
  await w.send('anna', BORIS, 'for the next owner')
  assert.equal((await device()).queued, 1)
  assert.deepEqual(w.texts('boris'), ['before'])
  assert.ok(!w.gateway.calls.some(({ params }) => params.company === 'boris'))
  await w.opened('boris')
  assert.deepEqual(await w.received('boris', ['before', 'for the next owner']), ['before', 'for the next owner'])
  await w.send('boris', ANNA, 'still the same device')
  await w.received('anna', ['still the same device'])
})

test('a journal that cannot be written refuses sends at once and keeps what arrives until it can', async (t) => {
  const w = await pairOfCompanies(t)
  await w.send('anna', BORIS, 'hello')
  await w.received('boris', ['hello'])
  w.gateway.before = async (method, { company }) => {
    if (method === 'keys.set' && company === 'boris') throw refusal('journal_unwritable', 'the disk is full', true)
  }
  await w.send('anna', BORIS, 'kept')
  await w.event('boris', 'error')
  const { ms } = await elapsedMs(assert.rejects(w.send('boris', ANNA, 'refused'), { code: 'journal_unwritable' }))
  assert.ok(ms < 2_000, `${ms} ms`)
  w.gateway.before = async () => {}
  assert.deepEqual(await w.received('boris', ['hello', 'kept']), ['hello', 'kept'])
  await w.send('boris', ANNA, 'answer')
  await w.received('anna', ['answer'])
  assert.deepEqual(w.texts('anna'), ['answer'])
  assert.ok(!w.gateway.events.some((e) => e.kind === 'undecryptable'))
})

test('a failure that nobody expected ends the host with 70; phone numbers and keys stay out of what it says', async (t) => {
  const w = await world(t)
  await w.child.kill('SIGKILL')
  await until(() => w.gateway.peers.size === 0, 'the first host to be gone')
  const failing = "setTimeout(() => Promise.reject(new Error('boom for 79990000001')), 1500)"
  await w.startHost({}, ['--import', `data:text/javascript,${encodeURIComponent(failing)}`])
  assert.equal(await w.child.exited, 70)
  assert.match(w.child.output, /boom for \[number\]/)
})

test('debugging logs neither phone numbers nor keys, and nothing reaches standard output', async (t) => {
  const w = await world(t, { host: false })
  await w.startHost({ STANDFAST_LOG: 'debug' })
  let stdout = ''
  w.child.stdout.on('data', (data) => {
    stdout += data
  })
  await w.paired('anna', ANNA)
  await w.paired('boris', BORIS)
  await w.send('anna', BORIS, 'a text that is nobody’s business')
  await w.received('boris', ['x'])
  assert.match(w.child.output, /"baileys":"info"/, 'there is something to look at')
  for (const secret of [ANNA, BORIS, 'business', 'privKey', w.gateway.token])
    assert.ok(!w.child.output.includes(secret))
  assert.equal(stdout, '')
})

test('an old Node, a wrong token, no service and contradicting settings each end with their own code and one line', async (t) => {
  const w = await world(t)
  const run = (env, ...argv) => {
    const options = { env: { PATH: process.env.PATH, ...env }, encoding: 'utf8', timeout: 10_000, input: undefined }
    const { status, stderr } = spawnSync(process.execPath, [...argv, HOST], options)
    return { status, lines: stderr.trim().split('\n'), stderr }
  }
  const pretend = "Object.defineProperty(process.versions, 'node', { value: '18.20.0' })"
  const old = run({}, '--import', `data:text/javascript,${encodeURIComponent(pretend)}`)
  assert.deepEqual([old.status, old.lines.length], [12, 1])
  assert.match(old.stderr, /Node\.js 18\.20\.0 is too old/)
  const env = w.hostEnvironment()
  const none = run({ ...env, STANDFAST_SOCKET: `${w.directory}/none.sock` })
  assert.deepEqual([none.status, none.lines.length], [9, 1])
  const half = run({ ...env, STANDFAST_WA_URL: '' })
  assert.deepEqual([half.status, half.lines.length], [3, 1])
  assert.match(half.stderr, /STANDFAST_WA_ROOT_KEY/)
  w.child.kill('SIGKILL')
  await w.startHost({ STANDFAST_HOST_TOKEN: 'not-the-made-up-one' })
  assert.equal(await w.child.exited, 14)
  assert.ok(!w.child.output.includes('not-the-made-up-one'))
})
