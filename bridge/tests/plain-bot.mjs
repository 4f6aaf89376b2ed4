/**
 * Owns an echo bot as one would write it for Baileys: of Standfast it knows only `useStandfastAuthState`.
 *
 * Invariant: it tells what happens to it as JSON lines, and ends in order when its standard input ends.
 */

import { DisconnectReason, makeWASocket } from 'baileys'
import { WA_CERT_DETAILS } from 'baileys/lib/Defaults/index.js'
import pino from 'pino'
import { useStandfastAuthState } from 'standfast-bridge'

WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(process.env.ROOT_KEY, 'base64')
const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`)
const { state, saveCreds, makeSignalRepository, close } = await useStandfastAuthState({
  company: 'bot',
  pair: true,
  quietSignal: true,
})

let sock
function connect() {
  const logger = pino({ level: 'silent' })
  sock = makeWASocket({ auth: state, logger, waWebSocketUrl: process.env.URL, makeSignalRepository })
  sock.ev.on('creds.update', saveCreds)
  sock.ev.on('connection.update', ({ connection, qr, lastDisconnect }) => {
    if (qr) tell({ qr })
    if (connection === 'open') tell({ open: true })
    const code = lastDisconnect?.error?.output?.statusCode
    if (connection === 'close' && code === DisconnectReason.restartRequired) connect()
  })
  sock.ev.on('messages.upsert', async ({ messages }) => {
    for (const { key, message } of messages) {
      const text = message?.conversation || message?.extendedTextMessage?.text
      if (key.fromMe || !text) continue
      tell({ text })
      await sock.sendMessage(key.remoteJid, { text: `echo ${text}` })
    }
  })
}

connect()
process.stdin.on('end', async () => {
  await sock.end(undefined)
  await close()
  process.exit(0)
})
process.stdin.resume()
