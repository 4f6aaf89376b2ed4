/**
 * A bot of somebody's own on real Baileys, driven by a test: `node bot.mjs STORE [ARGUMENT…]`.
 *
 * It tells what happens as JSON lines on stdout and takes {"send": {"to", "text"}}, {"dump": path} and {"end": true} as
 * JSON lines on stdin. Invariant: it ends by itself when stdin does.
 */

import { createInterface } from 'node:readline'
import makeWASocket, { DisconnectReason } from '../../../bridge/node_modules/baileys/lib/index.js'
import { stores } from './stores.mjs'

for (const method of ['log', 'info', 'warn', 'error']) console[method] = () => {}
const quiet = { level: 'silent', child: () => quiet }
for (const method of ['trace', 'debug', 'info', 'warn', 'error', 'fatal']) quiet[method] = () => {}

const tell = (event) => process.stdout.write(`${JSON.stringify(event)}\n`)
const [name, ...args] = process.argv.slice(2)
const sent = new Map()
let socket = null
let store

function connect() {
  const { state, makeSignalRepository } = store
  socket = makeWASocket({
    auth: state,
    logger: quiet,
    getMessage: async ({ id }) => sent.get(id),
    ...(makeSignalRepository && { makeSignalRepository }),
  })
  socket.ev.on('creds.update', store.saveCreds)
  socket.ev.on('connection.update', onConnection)
  socket.ev.on('messages.upsert', ({ messages }) => messages.forEach(onMessage))
}

function onConnection({ connection, qr, lastDisconnect }) {
  if (qr) tell({ event: 'qr', qr })
  if (connection === 'open') tell({ event: 'open' })
  if (connection !== 'close') return
  const status = lastDisconnect?.error?.output?.statusCode
  if (status !== DisconnectReason.restartRequired) return tell({ event: 'closed', status })
  connect()
}

function onMessage({ key, message }) {
  const text = message?.conversation ?? message?.extendedTextMessage?.text
  if (text && !key.fromMe) tell({ event: 'message', text, id: key.id })
}

function onLost(error) {
  tell({ event: 'lost', code: error.code, message: error.message })
  socket.end(error)
}

const commands = {
  send: async ({ to, text }) => {
    const message = await socket.sendMessage(to, { text })
    sent.set(message.key.id, message.message)
    tell({ event: 'sent', id: message.key.id })
  },
  dump: async (path) => tell({ event: 'dumped', done: store.dump(path) === undefined }),
  end: async () => {
    await socket.end(undefined)
    await store.close?.()
    process.exit(0)
  },
}

async function obey(line) {
  const [[command, argument]] = Object.entries(JSON.parse(line))
  try {
    await commands[command](argument)
  } catch (error) {
    tell({ event: 'failed', command, code: error.code, message: error.message })
  }
}

try {
  store = await stores[name](args, onLost)
} catch (error) {
  tell({ event: 'refused', code: error.code, message: error.message, next_step: error.nextStep })
  process.exit(1)
}
createInterface({ input: process.stdin })
  .on('line', obey)
  .on('close', () => process.exit(0))
connect()
