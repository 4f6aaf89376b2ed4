/**
 * Many bare Baileys sockets in one process, in pairs that chat with each other: what Standfast's sessions are compared
 * with. Their keys are in Maps; the options are those that Standfast gives to Baileys. `mended`: with what Standfast
 * mends in Baileys.
 * usage: node bare.mjs '{"url","rootKey","admin","companies":[["company","phone"],…],"mended","warmUp","messages"}'
 */

import { memoryState, mended, openClient, options, pause, say, tell, until } from './clients.mjs'

const AT_ONCE = 8
const CONFIG = { syncFullHistory: false, markOnlineOnConnect: false, emitOwnEvents: false }
const CHAT_DEADLINE_MS = 200_000

const clients = []

async function open([, phone], index) {
  const auth = options.mended ? mended(memoryState()) : memoryState()
  clients[index] = await openClient({ auth, phone, config: CONFIG, arrived: () => answer(index) })
}

async function openAll() {
  const waiting = [...options.companies.entries()]
  const work = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) await open(next[1], next[0])
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
}

/** How many messages each pair has still to get through. */
const left = []

function answer(index) {
  const pair = index >> 1
  if (--left[pair] > 0) void sendTo(index)
}

function sendTo(index) {
  return say(clients[index], clients[index ^ 1], `message ${left[index >> 1]}`)
}

async function converse(messages) {
  const pairs = options.companies.length / 2
  const began = performance.now()
  for (let pair = 0; pair < pairs; pair++) {
    left[pair] = messages
    void sendTo(2 * pair)
  }
  await until(() => left.every((count) => count <= 0), 'conversations', CHAT_DEADLINE_MS)
  return { messages: pairs * messages, seconds: (performance.now() - began) / 1000 }
}

await openAll()
await converse(options.warmUp)
await pause()
tell(await converse(options.messages))
await pause()
process.exit(0)
