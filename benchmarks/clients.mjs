/**
 * Owns what every measurement with real Baileys needs: a client that pairs with the simulator, and a store in memory.
 *
 * Invariant: a client connects to the address that it was given and nowhere else; nothing is printed but what is told.
 */

import { createInterface } from 'node:readline'
import { signalStoreOver } from '../bridge/lib/signal-repository.mjs'
import { WA_CERT_DETAILS } from '../bridge/node_modules/baileys/lib/Defaults/index.js'
import makeWASocket, { initAuthCreds } from '../bridge/node_modules/baileys/lib/index.js'
import pino from '../bridge/node_modules/pino/pino.js'

const DEADLINE_MS = 120_000
const POLL_MS = 2
const logger = pino({ level: 'silent' })

for (const name of ['log', 'info', 'warn', 'error', 'debug']) console[name] = () => {}

export const options = JSON.parse(process.argv[2])
if (options.rootKey) WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(options.rootKey, 'base64')

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

/** One JSON line to the process that started this one. */
export function tell(document) {
  process.stdout.write(`${JSON.stringify(document)}\n`)
}

/** Tells that it is ready, and waits until it is told to go on. */
export async function pause() {
  tell({ ready: true })
  const { done } = await lines.next()
  if (done) process.exit(0)
}

export function fail(message) {
  process.stderr.write(`${message}\n`)
  process.exit(1)
}

export async function until(done, what, timeoutMs = DEADLINE_MS) {
  const ends = Date.now() + timeoutMs
  while (!done()) {
    if (Date.now() > ends) fail(`${what}: not within ${timeoutMs / 1000} s`)
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

/** Auth state in a Map: what no durable store can outdo. */
export function memoryState() {
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

/** The same state with what Standfast mends in Baileys, so that runs differ in their store and in nothing else. */
export function mended(auth) {
  const { keys, makeSignalRepository } = signalStoreOver(auth.state.keys)
  return { ...auth, state: { ...auth.state, keys }, makeSignalRepository }
}

async function scan(qr, phone) {
  const answer = await fetch(`${options.admin}/scan`, { method: 'POST', body: JSON.stringify({ qr, phone }) })
  if (!answer.ok) throw new Error(`scan: ${answer.status}`)
}

/**
 * A client that is paired and open. `arrived(id, message)` is called for each text from others, doubles included;
 * `unreadable(id)` for what could not be decrypted.
 * @param {{ auth: object, phone: string, arrived: Function, unreadable?: Function, config?: object }} how
 */
export async function openClient({ auth, phone, arrived, unreadable, config }) {
  const { makeSignalRepository } = auth
  const client = { phone, auth, opened: false, socket: null, sent: new Map() }
  const connect = () => {
    const socket = makeWASocket({
      auth: auth.state,
      waWebSocketUrl: options.url,
      logger,
      version: [2, 3000, 1],
      getMessage: async ({ id }) => client.sent.get(id),
      ...(makeSignalRepository && { makeSignalRepository }),
      ...config,
    })
    client.socket = socket
    socket.ev.on('creds.update', () => auth.saveCreds())
    socket.ev.on('messages.upsert', ({ messages }) => {
      for (const { key, message, messageStubType } of messages) {
        if (key.fromMe) continue
        if (message?.conversation || message?.extendedTextMessage) arrived(key.id)
        else if (messageStubType) unreadable?.(key.id)
      }
    })
    socket.ev.on('connection.update', ({ qr, connection, lastDisconnect }) => {
      if (qr) scan(qr, phone).catch((error) => fail(error.message))
      if (connection === 'open') client.opened = true
      if (connection === 'close' && lastDisconnect?.error?.output?.statusCode === 515) connect()
    })
  }
  connect()
  await until(() => client.opened, 'login')
  return client
}

/** Sends one text; resolves to its id once Baileys has sent it. `id` may be chosen beforehand. */
export async function say(from, to, text, messageId) {
  const message = await from.socket.sendMessage(`${to.phone}@s.whatsapp.net`, { text }, messageId ? { messageId } : {})
  from.sent.set(message.key.id, message.message)
  return message.key.id
}

/** Ends clients and the process. */
export async function end(...clients) {
  for (const client of clients) {
    client.socket.end(undefined)
    await client.auth.close()
  }
  process.exit(0)
}
