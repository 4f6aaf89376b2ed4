/** What a Node bot gets that knows nothing of Standfast but `useStandfastAuthState`. */

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { until } from './fake-gateway.mjs'
import { world } from './host-harness.mjs'

const PLAIN_BOT = fileURLToPath(new URL('plain-bot.mjs', import.meta.url))
const BOT = '79990000011'
const FRIEND = '79990000012'

/** Starts the bot; what it tells is added to `told`. */
function startBot(t, w, told) {
  const { url, root_key } = w.simulator
  const env = { PATH: process.env.PATH, STANDFAST_SOCKET: w.gateway.socketPath, URL: url, ROOT_KEY: root_key }
  const child = spawn(process.execPath, [PLAIN_BOT], { env, stdio: ['pipe', 'pipe', 'inherit'] })
  t.after(() => child.kill('SIGKILL'))
  createInterface({ input: child.stdout }).on('line', (line) => told.push(JSON.parse(line)))
  return async () => {
    child.stdin.end()
    const [code] = await once(child, 'exit', { signal: AbortSignal.timeout(10_000) })
    assert.equal(code, 0)
  }
}

test('a Node bot pairs, chats, loses the gateway in between, restarts without pairing and chats on', async (t) => {
  const w = await world(t, { host: false })
  const told = []
  const opens = (count) => until(() => told.filter((what) => what.open).length === count, `login ${count}`)
  let stop = startBot(t, w, told)
  const { qr } = await until(() => told.find((what) => what.qr), 'a QR')
  await w.admin('POST', '/scan', { qr, phone: BOT })
  await opens(1)
  await w.admin('POST', '/contacts', { phone: FRIEND, behaviour: 'silent' })
  const say = (text) => w.admin('POST', `/contacts/${FRIEND}/send`, { to: BOT, text })
  const echoes = (count) =>
    until(async () => {
      const { messages } = await w.admin('GET', `/contacts/${FRIEND}/messages`)
      return messages.length >= count
    }, `${count} echoes`)
  await say('one')
  await echoes(1)
  await w.gateway.stop()
  const two = say('two')
  await w.gateway.start()
  await two
  await echoes(2)
  await stop()
  assert.equal(w.gateway.holders.size, 0)
  stop = startBot(t, w, told)
  await opens(2)
  await say('three')
  await echoes(3)
  await stop()
  assert.deepEqual(told.map((what) => what.text).filter(Boolean), ['one', 'two', 'three'])
  assert.equal(told.filter((what) => what.qr).length, 1, 'paired once')
})
