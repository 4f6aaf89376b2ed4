/** Promises of a host that must never reach real WhatsApp. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { confine } from '../lib/confinement.mjs'

const HOST = fileURLToPath(new URL('../host.mjs', import.meta.url))
const CONFINEMENT = new URL('../lib/confinement.mjs', import.meta.url).href
// 192.0.2.0/24 is nobody's: were it tried, it would time out or be unreachable, and say so with another code.
const ATTEMPTS = `
  const { confine } = await import('${CONFINEMENT}')
  const [net, tls, https] = await Promise.all(['node:net', 'node:tls', 'node:https'].map((name) => import(name)))
  const { default: WebSocket } = await import('ws')
  confine({ STANDFAST_WA_CONFINED: '1', STANDFAST_WA_URL: 'ws://127.0.0.1:1/ws' })
  const failure = (emitter) => new Promise((resolve) => emitter.on('error', resolve).on('connect', () => resolve(null)))
  const codes = await Promise.all([
    failure(net.connect(443, '192.0.2.1')),
    failure(net.connect({ port: 443, host: 'web.whatsapp.com' })),
    failure(new net.Socket().connect({ port: 443, host: '192.0.2.1' })),
    failure(tls.connect(443, '192.0.2.1')),
    failure(https.get('https://192.0.2.1/')),
    failure(new WebSocket('wss://web.whatsapp.com/ws/chat')),
    fetch('https://192.0.2.1/').then(() => null, (error) => error.cause),
    failure(net.connect(Number(process.env.PORT))),
    failure(net.connect(Number(process.env.PORT), '127.0.0.1')),
  ])
  console.log(JSON.stringify({ codes: codes.map((error) => error && error.code), proxy: process.env.https_proxy ?? null }))
  process.exit(0)
`

async function run(argv, env) {
  const child = spawn(process.execPath, argv, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env.PATH, ...env },
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data))
  const timer = setTimeout(() => child.kill('SIGKILL'), 15_000)
  const [code] = await once(child, 'close')
  clearTimeout(timer)
  return { code, output }
}

test('a confined process connects to this machine and to no other, by whatever way it is asked', async (t) => {
  const server = createServer((socket) => socket.end()).listen(0, '127.0.0.1')
  t.after(() => server.close())
  await once(server, 'listening')
  const env = { PORT: String(server.address().port), https_proxy: 'http://127.0.0.1:3128' }
  const { output } = await run(['--input-type=module', '-e', ATTEMPTS], { ...env })
  const { codes, proxy } = JSON.parse(output)
  assert.deepEqual(codes, [...Array(7).fill('settings'), null, null])
  assert.equal(proxy, null)
})

test('a host that is to be confined starts with no address but one of this machine', async () => {
  const env = {
    STANDFAST_WA_CONFINED: '1',
    STANDFAST_WA_URL: 'wss://web.whatsapp.com/ws/chat',
    STANDFAST_SOCKET: '/none',
  }
  const { code, output } = await run([HOST], env)
  assert.equal(code, 3)
  assert.match(output, /STANDFAST_WA_CONFINED/)
  for (const url of [undefined, '', 'ws://127.0.0.1.example.net/', 'ws://192.0.2.1/', 'ws://localhost.example.net/'])
    assert.throws(() => confine({ STANDFAST_WA_CONFINED: '1', STANDFAST_WA_URL: url }), { code: 'settings' })
})
