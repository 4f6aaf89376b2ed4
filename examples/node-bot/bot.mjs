/**
 * A plain Baileys bot whose auth state is kept by Standfast: what differs is marked.
 *
 * Run `standfast up --gateway-only` first, then: node examples/node-bot/bot.mjs COMPANY
 */

import { createRequire } from 'node:module'
import { useStandfastAuthState } from '../../bridge/auth-state.mjs'

const require = createRequire(new URL('../../bridge/package.json', import.meta.url))
const { default: makeWASocket, DisconnectReason } = await import(require.resolve('baileys'))

const company = process.argv[2] ?? 'main'
// Standfast: was useMultiFileAuthState('auth')
const { state, saveCreds, makeSignalRepository, close } = await useStandfastAuthState({ company, pair: true })

function start() {
  const socket = makeWASocket({ auth: state, makeSignalRepository }) // Standfast: the second option
  socket.ev.on('creds.update', saveCreds)
  socket.ev.on('connection.update', ({ connection, lastDisconnect, qr }) => {
    if (qr) process.stdout.write(`scan this as a QR: ${qr}\n`)
    if (connection !== 'close') return
    const status = lastDisconnect?.error?.output?.statusCode
    if (status === DisconnectReason.restartRequired) start()
    else if (status === DisconnectReason.loggedOut || status === DisconnectReason.connectionReplaced) close()
    else setTimeout(start, 5000)
  })
  socket.ev.on('messages.upsert', async ({ type, messages }) => {
    for (const { key, message } of type === 'notify' ? messages : []) {
      const text = message?.conversation ?? message?.extendedTextMessage?.text
      if (text && !key.fromMe) await socket.sendMessage(key.remoteJid, { text: `echo: ${text}` })
    }
  })
}

start()
