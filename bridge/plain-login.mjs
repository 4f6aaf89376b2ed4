/**
 * Owns one login of a plain Baileys from a folder that `useMultiFileAuthState` made, or Standfast in an emergency:
 * `node plain-login.mjs FOLDER TO TEXT` opens, sends TEXT to the phone number TO, waits for one answer, and ends.
 *
 * Invariant: nothing of Standfast takes part but the address to connect to; it ends within `LIMIT_MS`. It tells what
 * happens as JSON lines, and exits with 0 only where the message was confirmed and an answer was decrypted.
 */

import { makeWASocket, useMultiFileAuthState } from 'baileys'
import pino from 'pino'
import { WhatsAppConfig } from './lib/whatsapp-config.mjs'

const LIMIT_MS = 20_000
const SETTLE_MS = 500
const SERVER_ACK = 2
const [folder, to, text] = process.argv.slice(2)
const logger = pino({ level: 'silent' })
// libsignal prints sessions with their private keys.
console.info = () => {}
const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`)

const { state, saveCreds } = await useMultiFileAuthState(folder)
const config = await new WhatsAppConfig(process.env, logger).socketConfig(null)
const sock = makeWASocket({ auth: state, logger, ...config })
const confirmed = new Set()
let sentId = null
let answered = false

async function end(code) {
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS))
  await sock.end(undefined)
  process.exit(code)
}

function done() {
  // The confirmation may come before the call that it confirms has returned.
  if (answered && confirmed.has(sentId)) end(0)
}

setTimeout(() => {
  tell({ timeout: { answered, confirmed: confirmed.has(sentId) } })
  end(1)
}, LIMIT_MS)

sock.ev.on('creds.update', saveCreds)
sock.ev.on('connection.update', async ({ connection, lastDisconnect }) => {
  if (connection === 'close') {
    tell({ closed: lastDisconnect?.error?.output?.statusCode ?? null })
    end(1)
  }
  if (connection !== 'open') return
  tell({ open: true })
  sentId = (await sock.sendMessage(`${to}@s.whatsapp.net`, { text })).key.id
  done()
})
sock.ev.on('messages.update', (updates) => {
  for (const { key, update } of updates) if (update.status >= SERVER_ACK) confirmed.add(key.id)
  done()
})
sock.ev.on('messages.upsert', ({ messages }) => {
  for (const { key, message } of messages) {
    const answer = message?.conversation || message?.extendedTextMessage?.text
    if (key.fromMe || !answer) continue
    tell({ received: answer })
    answered = true
    done()
  }
})
