/**
 * Two real Baileys clients in one process that pair with the simulator and chat both ways; prints one JSON line.
 *
 * The store is the only thing that differs between runs: 'memory' (a Map, the upper bound) or 'standfast'.
 * usage: node chat.mjs '{"store","url","rootKey","admin","socket"?,"messages","pairs":[["company","phone"],…]}'
 */

import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const options = JSON.parse(process.argv[2])
const require = createRequire(`${options.bridge}/package.json`)
const load = (name) => import(pathToFileURL(require.resolve(name)).href)
const { default: makeWASocket, initAuthCreds } = await load('baileys')
const { WA_CERT_DETAILS } = await load('baileys/lib/Defaults/index.js')
const { default: pino } = await load('pino')
const { useStandfastAuthState } = await import(pathToFileURL(`${options.bridge}/auth-state.mjs`).href)
const { signalRepositoryOver } = await import(pathToFileURL(`${options.bridge}/lib/signal-repository.mjs`).href)

for (const name of ['log', 'info', 'warn', 'error', 'debug']) console[name] = () => {}
WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(options.rootKey, 'base64')
const logger = pino({ level: 'silent' })
const DEADLINE_MS = 120_000
const TURN = 3
const counts = { gets: 0, sets: 0, keys: 0 }

const deadline = setTimeout(() => fail('nothing arrived for 30 s'), 30_000)

function memoryState() {
  const kept = new Map()
  const keys = {
    get: async (type, ids) => {
      const found = {}
      for (const id of ids) if (kept.has(`${type}.${id}`)) found[id] = kept.get(`${type}.${id}`)
      return found
    },
    set: async (data) => {
      for (const type in data)
        for (const id in data[type])
          if (data[type][id]) kept.set(`${type}.${id}`, data[type][id])
          else kept.delete(`${type}.${id}`)
    },
  }
  return { state: { creds: initAuthCreds(), keys }, saveCreds: async () => {}, close: async () => {} }
}

/** The same store, with its operations counted while the chat runs. */
function counted(auth) {
  const { get, set } = auth.state.keys
  auth.state.keys.get = (type, ids) => {
    counts.gets++
    return get(type, ids)
  }
  auth.state.keys.set = (data) => {
    counts.sets++
    for (const type in data) counts.keys += Object.keys(data[type]).length
    return set(data)
  }
  return auth
}

async function scan(qr, phone) {
  const answer = await fetch(`${options.admin}/scan`, { method: 'POST', body: JSON.stringify({ qr, phone }) })
  if (!answer.ok) throw new Error(`scan: ${answer.status}`)
}

async function client(company, phone) {
  const auth = counted(
    options.store === 'memory'
      ? memoryState()
      : await useStandfastAuthState({ company, socket: options.socket, pair: true }),
  )
  const one = { phone, got: new Set(), doubles: 0, socket: null, auth, opened: false, waiting: null }
  one.has = (ids) =>
    new Promise((resolve) => {
      one.waiting = () => ids.every((id) => one.got.has(id)) && resolve()
      deadline.refresh()
      one.waiting()
    })
  const connect = () => {
    const socket = makeWASocket({
      auth: auth.state,
      waWebSocketUrl: options.url,
      logger,
      version: [2, 3000, 1],
      makeSignalRepository: signalRepositoryOver(auth.state.keys),
    })
    one.socket = socket
    socket.ev.on('creds.update', () => auth.saveCreds())
    socket.ev.on('messages.upsert', ({ messages }) => {
      for (const { key, message } of messages) {
        if (key.fromMe || !(message?.conversation || message?.extendedTextMessage)) continue
        if (one.got.has(key.id)) one.doubles++
        one.got.add(key.id)
        one.waiting?.()
      }
    })
    socket.ev.on('connection.update', ({ qr, connection, lastDisconnect }) => {
      if (qr) scan(qr, phone).catch((error) => fail(error.message))
      if (connection === 'open') one.opened = true
      if (connection === 'close' && lastDisconnect?.error?.output?.statusCode === 515) connect()
    })
  }
  connect()
  await until(() => one.opened, 'login')
  return one
}

function fail(message) {
  process.stderr.write(`${message}\n`)
  process.exit(1)
}

async function until(done, what) {
  const ends = Date.now() + DEADLINE_MS
  while (!done()) {
    if (Date.now() > ends) fail(`${what}: not within ${DEADLINE_MS / 1000} s`)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}

/**
 * A conversation as people have it: one writes a few messages, the other reads them all and answers.
 * Each change of turn steps the ratchet anew, in every run alike. (When both send without listening, the faster store
 * does less cryptography than the slower, and the comparison is void.)
 */
async function chat(a, b, messages) {
  for (let n = 0; n < messages; n += TURN) {
    await tell(a, b, n)
    await tell(b, a, n)
  }
}

async function say(from, to, text) {
  const { key } = await from.socket.sendMessage(`${to.phone}@s.whatsapp.net`, { text })
  return key.id
}

async function tell(from, to, n) {
  const sent = []
  for (let i = 0; i < TURN; i++) sent.push(await say(from, to, `message ${n + i}`))
  await to.has(sent)
}

async function measured() {
  Object.assign(counts, { gets: 0, sets: 0, keys: 0 })
  const cpu = process.cpuUsage()
  const began = performance.now()
  await chat(a, b, options.messages)
  const seconds = (performance.now() - began) / 1000
  const { user, system } = process.cpuUsage(cpu)
  const operations = counts.gets + counts.sets
  const messages = 2 * options.messages
  return {
    messages,
    seconds,
    messages_per_s: messages / seconds,
    key_operations: operations,
    key_operations_per_s: operations / seconds,
    ...counts,
    doubles: a.doubles + b.doubles,
    cpu_ms_per_message: (user + system) / 1000 / messages,
  }
}

const [a, b] = await Promise.all(options.pairs.map(([company, phone]) => client(company, phone)))
await chat(a, b, 21)
process.stdout.write(`${JSON.stringify(await measured())}\n`)
for (const one of [a, b]) {
  one.socket.end(undefined)
  await one.auth.close()
}
process.exit(0)
