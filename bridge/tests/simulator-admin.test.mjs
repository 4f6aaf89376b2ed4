/** Promises about contacts, the admin API and the process itself. */
import assert from 'node:assert/strict'
import { readdir, stat } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { TestClient } from '../simulator/testing/client.mjs'
import { eventually, runToEnd, SimulatorProcess } from '../simulator/testing/harness.mjs'

const [ALICE, ECHO, TALKER] = ['79990000001', '79990000011', '79990000012']
let simulator, alice

before(async () => {
  simulator = await SimulatorProcess.temporary()
  alice = await TestClient.paired(simulator, ALICE)
})
after(async () => {
  await alice.disconnect()
  await simulator.remove()
})

const messagesOf = async (phone, seq = 0) =>
  (await simulator.must('GET', `/contacts/${phone}/messages?after=${seq}`)).messages

test('an echo contact answers each text in the chat it came from, groups too', async () => {
  const made = await simulator.call('POST', '/contacts', { phone: ECHO, behaviour: 'echo' })
  assert.deepEqual([made.status, made.body.state], [201, 'open'])
  await alice.send(ECHO, 'hello')
  await eventually(() => alice.received('echo: hello').length, 'the echo')
  const { jid } = await simulator.must('POST', '/groups', { subject: 'with echo', participants: [ALICE, ECHO] })
  await alice.send(jid, 'in the group')
  await eventually(
    () =>
      alice.upserts.some(
        ({ key, message }) => key.remoteJid === jid && message?.extendedTextMessage?.text === 'echo: in the group',
      ),
    'the echo in the group',
  )
  const [first, second] = await messagesOf(ECHO)
  assert.deepEqual(
    [first.seq, first.chat, first.sender, first.text],
    [1, `${ALICE}@s.whatsapp.net`, `${ALICE}@s.whatsapp.net`, 'hello'],
  )
  assert.deepEqual([second.chat, second.text], [jid, 'in the group'])
  assert.deepEqual(
    (await messagesOf(ECHO, 1)).map(({ seq }) => seq),
    [2],
  )
})

test('a talking contact sends numbered texts, and a contact sends what it is told to', async () => {
  await simulator.must('POST', '/contacts', { phone: TALKER, behaviour: 'talk', peer: ALICE, interval_ms: 50 })
  await eventually(() => alice.received('message').length >= 3, 'three texts')
  assert.deepEqual(alice.received('message').slice(0, 3), ['message 1', 'message 2', 'message 3'])
  const { id } = await simulator.must('POST', `/contacts/${TALKER}/send`, { to: ALICE, text: 'on demand' })
  await eventually(() => alice.upserts.some(({ key }) => key.id === id), 'the text on demand')
  await simulator.must('DELETE', `/contacts/${TALKER}`)
  assert.equal((await simulator.call('GET', `/contacts/${TALKER}/messages`)).status, 404)
})

test('a contact lists and answers a message once, though it was delivered twice', async () => {
  await simulator.must('POST', '/faults', { kind: 'duplicate', phone: ECHO, count: 3 })
  for (const number of [1, 2, 3]) await alice.send(ECHO, `copied ${number}`)
  await eventually(() => alice.received('echo: copied').length >= 3, 'three answers')
  const texts = (await messagesOf(ECHO)).map(({ text }) => text).filter((text) => text.startsWith('copied'))
  assert.deepEqual(texts, ['copied 1', 'copied 2', 'copied 3'])
})

test('contacts come back after a restart and after SIGKILL, and lose nothing that is sent after', async () => {
  for (const signal of ['SIGTERM', 'SIGKILL']) {
    const { code, ms } = await simulator.kill(signal)
    if (signal === 'SIGTERM') assert.deepEqual([code, ms < 1_000], [0, true])
    await alice.whenClosed()
    await simulator.start()
    alice.connect()
    await alice.whenOpen()
    await alice.send(ECHO, `after ${signal}`)
    await eventually(() => alice.received(`echo: after ${signal}`).length, 'the echo', 15_000)
  }
  assert.equal((await simulator.must('GET', `/contacts/${ECHO}/messages`)).undecryptable, 0)
})

test('bad admin input is refused with a code and the next step, and never ends the simulator', async () => {
  const refusals = [
    ['POST', '/scan', '{', 400],
    ['POST', '/scan', '[]', 400],
    ['POST', '/scan', {}, 400],
    ['POST', '/scan', { qr: 'x', phone: '123' }, 400],
    ['POST', '/scan', 'x'.repeat(70_000), 413],
    ['POST', '/enter-code', { phone: '79990000099', code: 'ABCDEFGH' }, 404],
    ['GET', '/nothing', undefined, 404],
    ['DELETE', '/status', undefined, 405],
    ['GET', '/phones/%E0%A4%A/devices', undefined, 400],
    ['GET', '/phones/79990000099/devices', undefined, 404],
    ['POST', '/phones', { phone: 'me' }, 400],
    ['POST', `/phones/${ALICE}/unlink`, { device: 7 }, 404],
    ['POST', `/phones/${ALICE}/unlink`, {}, 400],
    ['POST', '/contacts', { phone: '79990000098', behaviour: 'sing' }, 400],
    ['POST', '/contacts', { phone: '79990000098', behaviour: 'talk' }, 400],
    ['POST', '/contacts', { phone: ECHO, behaviour: 'echo' }, 409],
    ['POST', `/contacts/${ECHO}/send`, { to: ALICE }, 400],
    ['POST', '/contacts/79990000098/send', { to: ALICE, text: 'x' }, 404],
    ['GET', `/contacts/${ECHO}/messages?after=x`, undefined, 400],
    ['POST', '/groups', { subject: 'x' }, 400],
    ['POST', '/groups', { subject: '', participants: [ALICE] }, 400],
    ['POST', '/faults', { kind: 'toString' }, 400],
    ['POST', '/faults', { kind: 'close' }, 400],
    ['POST', '/faults', { kind: 'delay', ms: -1 }, 400],
    ['POST', '/faults', { kind: 'drop', phone: 5 }, 400],
    ['DELETE', '/faults/99', undefined, 404],
  ]
  for (const [method, path, body, expected] of refusals) {
    const answer = await simulator.call(method, path, body)
    assert.equal(answer.status, expected, `${method} ${path} ${JSON.stringify(body)?.slice(0, 60)}`)
    assert.ok(answer.body.error.code && answer.body.error.message && answer.body.error.next_step)
  }
  const { version, connections, uptime_s: uptime } = await simulator.must('GET', '/status')
  assert.ok(version && connections >= 2 && uptime >= 0)
})

test('state is private: directory 0700, files 0600, and no key or phone number in the log', async () => {
  assert.equal((await stat(simulator.stateDir)).mode & 0o777, 0o700)
  for (const name of await readdir(simulator.stateDir))
    assert.equal((await stat(join(simulator.stateDir, name))).mode & 0o777, 0o600)
  assert.doesNotMatch(simulator.stderr, /7999|private|privKey/i)
})

test('wrong arguments end with 2, a port in use with 11, each with one clear line', async () => {
  for (const args of [[], ['--state'], ['--nonsense'], ['--state', simulator.stateDir, '--port', '70000']]) {
    const { code, stdout, stderr } = await runToEnd(args)
    assert.deepEqual([code, stdout], [2, ''], args.join(' '))
    assert.match(JSON.parse(stderr).msg, /usage/)
  }
  const other = createServer()
  await new Promise((resolve) => other.listen(0, '127.0.0.1', resolve))
  const port = other.address().port
  const { code, stderr } = await runToEnd(['--state', join(simulator.stateDir, 'second'), '--port', String(port)])
  other.close()
  assert.equal(code, 11)
  assert.match(JSON.parse(stderr).msg, new RegExp(`port ${port} .* in use`))
})

test('a state directory that a living simulator holds is refused with 10, and left as it is', async () => {
  const { code, stderr } = await runToEnd(['--state', simulator.stateDir])
  assert.equal(code, 10)
  assert.match(JSON.parse(stderr).msg, /held by process/)
  await simulator.must('GET', '/status')
})

test('with --exit-with-parent it ends when stdin does', async () => {
  const child = new SimulatorProcess()
  child.stateDir = join(simulator.stateDir, 'third')
  await child.start(['--exit-with-parent'])
  const ended = child.ended()
  child.stdin.end()
  assert.equal(await ended, 0)
})
