/**
 * Records which key operations real Baileys asks of its store while two clients chat through the simulator.
 *
 * Without `mirror` it is plain Baileys over a plain store; with it, what Standfast's client lets through to the gateway.
 * The trace holds keys of made-up accounts of the simulator. It starts after a warm-up: `state` is what was stored by then.
 * usage: node record.mjs '{"mirror","output","url","rootKey","admin","messages","pairs":[["company","phone"],…]}'
 */

import { writeFileSync } from 'node:fs'
import { KeyMirror } from '../bridge/lib/key-mirror.mjs'
import { encodeValue, reviveBuffers } from '../bridge/lib/values.mjs'
import { end, memoryState, mended, options, pause, tell } from './clients.mjs'
import { converse, Talker } from './conversation.mjs'

const WARM_UP = 30

/** Keeps values as text and writes down each operation, from `begin` on. */
class Recorder {
  #kept = new Map()
  #operations = null
  #state = []

  begin() {
    this.#state = Array.from(this.#kept, ([name, text]) => [...name.split('\0'), text])
    this.#operations = []
  }

  get trace() {
    return { state: this.#state, operations: this.#operations }
  }

  get(type, ids) {
    this.#operations?.push(['get', type, ids])
    const found = {}
    for (const id of ids) {
      const text = this.#kept.get(`${type}\0${id}`)
      if (text !== undefined) found[id] = JSON.parse(text)
    }
    return found
  }

  set(texts) {
    this.#operations?.push(['set', texts])
    for (const type in texts) {
      for (const [id, text] of Object.entries(texts[type])) {
        if (text === null) this.#kept.delete(`${type}\0${id}`)
        else this.#kept.set(`${type}\0${id}`, text)
      }
    }
  }
}

function mapped(values, convert) {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, convert(value)]))
}

function plainKeys(recorder) {
  return {
    get: async (type, ids) => mapped(recorder.get(type, ids), reviveBuffers),
    set: async (data) => recorder.set(mapped(data, (values) => mapped(values, (value) => value && encodeValue(value)))),
  }
}

function mirroredKeys(recorder) {
  const mirror = new KeyMirror({
    fetch: async (type, ids) => recorder.get(type, ids),
    store: async (json) =>
      recorder.set(mapped(JSON.parse(json), (values) => mapped(values, (value) => value && JSON.stringify(value)))),
    clear: async () => {},
  })
  return { get: (type, ids) => mirror.get(type, ids), set: (data) => mirror.set(data) }
}

async function recorded([, phone]) {
  const recorder = new Recorder()
  const auth = memoryState()
  auth.state.keys = options.mirror ? mirroredKeys(recorder) : plainKeys(recorder)
  const talker = await Talker.open({ auth: options.mirror ? mended(auth) : auth, phone })
  return Object.assign(talker, { recorder })
}

const [a, b] = await Promise.all(options.pairs.map(recorded))
await converse(a, b, WARM_UP)
await pause()
a.recorder.begin()
await converse(a, b, options.messages)
writeFileSync(options.output, JSON.stringify(a.recorder.trace), { mode: 0o600 })
tell({ operations: a.recorder.trace.operations.length, messages: 2 * options.messages })
await end(a.client, b.client)
