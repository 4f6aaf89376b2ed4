/**
 * Two real Baileys clients that write to each other at a steady rate, whatever the other's state, and how late each message
 * is read. Tells `{"phase"}` when a phase begins, so that the starter may take PostgreSQL away or give it back.
 *
 * A message's latency counts from the moment it was due, so that a sender that stands still does not hide it.
 * usage: node outage.mjs '{"socket","cached","rate","phases":[["name",seconds],…],"url","rootKey","admin","pairs"}'
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { useStandfastAuthState } from '../bridge/auth-state.mjs'
import { generateMessageIDV2, makeCacheableSignalKeyStore } from '../bridge/node_modules/baileys/lib/index.js'
import { end, openClient, options, pause, say, tell } from './clients.mjs'

const PATIENCE_MS = 60_000
const quiet = { level: 'silent', child: () => quiet }
for (const method of ['trace', 'debug', 'info', 'warn', 'error', 'fatal']) quiet[method] = () => {}
const messages = new Map()
let undecryptable = 0

function arrived(id) {
  const message = messages.get(id)
  if (!message) return
  message.times++
  message.arrivedAt ??= performance.now()
}

async function client([company, phone]) {
  const auth = await useStandfastAuthState({ company, socket: options.socket, pair: true })
  const { keys } = auth.state
  const state = options.cached ? { ...auth.state, keys: makeCacheableSignalKeyStore(keys, quiet) } : auth.state
  return openClient({
    auth: { ...auth, state },
    phone,
    arrived,
    unreadable: () => undecryptable++,
  })
}

async function write(from, to, phase, dueAt, n) {
  const id = generateMessageIDV2(from.socket.user.id)
  const message = { phase, dueAt, times: 0, failed: false }
  messages.set(id, message)
  try {
    await say(from, to, `message ${n}`, id)
  } catch {
    message.failed = true
  }
}

async function writeAll([a, b]) {
  const began = performance.now()
  const intervalMs = 1000 / options.rate
  let n = 0
  let endsAt = began
  for (const [phase, seconds] of options.phases) {
    tell({ phase })
    endsAt += seconds * 1000
    for (; began + n * intervalMs < endsAt; n++) {
      const dueAt = began + n * intervalMs
      await sleep(Math.max(0, dueAt - performance.now()))
      // Not awaited: a person who waits for an answer still writes on.
      void (n % 2 ? write(a, b, phase, dueAt, n) : write(b, a, phase, dueAt, n))
    }
  }
}

async function allArrived() {
  const patience = performance.now() + PATIENCE_MS
  const open = () => [...messages.values()].some(({ times, failed }) => times === 0 && !failed)
  while (open() && performance.now() < patience) await sleep(20)
}

const clients = await Promise.all(options.pairs.map(client))
await say(...clients, 'hello')
await say(...clients.toReversed(), 'hello')
await pause()
await writeAll(clients)
await allArrived()
tell({
  messages: Array.from(messages.values(), ({ phase, dueAt, arrivedAt, times, failed }) => ({
    phase,
    late_ms: arrivedAt === undefined ? null : arrivedAt - dueAt,
    times,
    failed,
  })),
  undecryptable,
})
await end(...clients)
