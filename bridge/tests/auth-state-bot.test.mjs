/** A bot that knows nothing of Standfast but `useStandfastAuthState`, written as one would write it for Baileys. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DisconnectReason, makeWASocket } from 'baileys'
import { WA_CERT_DETAILS } from 'baileys/lib/Defaults/index.js'
import { useStandfastAuthState } from 'standfast-bridge'
import { makeBaileysLog, makeHostLog } from '../lib/host-log.mjs'
import { until } from './fake-gateway.mjs'
import { world } from './host-harness.mjs'

const BOT = '79990000011'
const FRIEND = '79990000012'
const logger = makeBaileysLog(makeHostLog('silent'))

async function startBot(w, seen) {
  const { state, saveCreds, makeSignalRepository, close } = await useStandfastAuthState({
    company: 'bot',
    socket: w.gateway.socketPath,
    pair: true,
    quietSignal: true,
  })
  let sock
  const connect = () => {
    sock = makeWASocket({ auth: state, logger, waWebSocketUrl: w.simulator.url, makeSignalRepository })
    sock.ev.on('creds.update', saveCreds)
    sock.ev.on('connection.update', ({ connection, qr, lastDisconnect }) => {
      if (qr) seen.qr.push(qr)
      if (connection === 'open') seen.opens++
      const code = lastDisconnect?.error?.output?.statusCode
      if (connection === 'close' && code === DisconnectReason.restartRequired) connect()
    })
    sock.ev.on('messages.upsert', async ({ messages }) => {
      for (const { key, message } of messages) {
        const text = message?.conversation || message?.extendedTextMessage?.text
        if (key.fromMe || !text) continue
        seen.texts.push(text)
        await sock.sendMessage(key.remoteJid, { text: `echo ${text}` })
      }
    })
  }
  connect()
  return async () => {
    await sock.end(undefined)
    await close()
  }
}

test('a Node bot pairs, chats, loses the gateway in between, restarts without pairing and chats on', async (t) => {
  const w = await world(t, { host: false })
  WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(w.simulator.root_key, 'base64')
  const seen = { qr: [], opens: 0, texts: [] }
  let stop = await startBot(w, seen)
  await until(() => seen.qr.length > 0, 'a QR')
  await w.admin('POST', '/scan', { qr: seen.qr[0], phone: BOT })
  await until(() => seen.opens === 1, 'the login')
  await w.admin('POST', '/contacts', { phone: FRIEND, behaviour: 'silent' })
  const say = (text) => w.admin('POST', `/contacts/${FRIEND}/send`, { to: BOT, text })
  const echoes = async (count) => {
    const heard = async () => (await w.admin('GET', `/contacts/${FRIEND}/messages`)).messages
    return until(async () => ((await heard()).length >= count ? heard() : null), `${count} echoes`)
  }
  await say('one')
  await echoes(1)
  await w.gateway.stop()
  const two = say('two')
  await w.gateway.start()
  await two
  await echoes(2)
  await stop()
  assert.equal(w.gateway.holders.size, 0)
  stop = await startBot(w, seen)
  await until(() => seen.opens === 2, 'the second login')
  await say('three')
  await echoes(3)
  await stop()
  assert.deepEqual(seen.texts, ['one', 'two', 'three'])
  assert.equal(seen.qr.length, 1, 'paired once')
})
