/**
 * Two real Baileys clients in one process that pair with the simulator and chat both ways; tells one JSON line.
 *
 * The store is the only thing that differs between runs: 'memory' (a Map, the upper bound) or 'standfast'.
 * usage: node chat.mjs '{"store","url","rootKey","admin","socket"?,"messages","pairs":[["company","phone"],…]}'
 */

import { useStandfastAuthState } from '../bridge/auth-state.mjs'
import { end, memoryState, mended, options, pause, tell } from './clients.mjs'
import { converse, Talker } from './conversation.mjs'

const WARM_UP = 21
const counts = { gets: 0, sets: 0, keys: 0 }

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

async function talker(company, phone) {
  const { store, socket } = options
  const auth = store === 'memory' ? mended(memoryState()) : await useStandfastAuthState({ company, socket, pair: true })
  return Talker.open({ auth: counted(auth), phone })
}

async function measured(a, b) {
  Object.assign(counts, { gets: 0, sets: 0, keys: 0 })
  const cpu = process.cpuUsage()
  const began = performance.now()
  await converse(a, b, options.messages)
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

const [a, b] = await Promise.all(options.pairs.map(([company, phone]) => talker(company, phone)))
await converse(a, b, WARM_UP)
await pause()
tell(await measured(a, b))
await end(a.client, b.client)
