/** What happens between decryption and hand-over: plaintexts that outlive a process, frames that wait. */

import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { test } from 'node:test'
import { addTransactionCapability } from 'baileys'
import { Arrival } from '../lib/arrival.mjs'
import { FrameHold } from '../lib/frame-hold.mjs'
import { makeBaileysLog, makeHostLog } from '../lib/host-log.mjs'
import { Untaken } from '../lib/untaken.mjs'
import { encodeValue, reviveBuffers } from '../lib/values.mjs'

const silent = makeBaileysLog(makeHostLog('silent'))
const CIPHERTEXT = Buffer.from('sealed')

/** A durable store behind Baileys' transactions; `broken` makes writes fail. */
function store() {
  const rows = new Map()
  const state = {
    rows,
    broken: false,
    get: async (type, ids) => {
      const found = ids.filter((id) => rows.has(`${type}/${id}`))
      return Object.fromEntries(found.map((id) => [id, reviveBuffers(JSON.parse(rows.get(`${type}/${id}`)))]))
    },
    set: async (data) => {
      if (state.broken) throw new Error('the store is away')
      for (const [type, values] of Object.entries(data)) {
        for (const [id, value] of Object.entries(values)) {
          if (value === null) rows.delete(`${type}/${id}`)
          else rows.set(`${type}/${id}`, encodeValue(value))
        }
      }
    },
  }
  return state
}

const keysOf = (state) => addTransactionCapability(state, silent, { maxCommitRetries: 1, delayBetweenTriesMs: 1 })

/** Steps a made-up ratchet, as decrypting does: it works once. */
const decryptOnce = (keys) => async () => {
  const { a } = await keys.get('session', ['a'])
  if (a) throw new Error('Key used already or never filled')
  await keys.set({ session: { a: { counter: 1 } } })
  return Buffer.from('hello')
}

async function opened(state) {
  const keys = keysOf(state)
  const untaken = new Untaken()
  untaken.attach(keys)
  return { untaken, open: () => untaken.open('ID1', CIPHERTEXT, 'anna', decryptOnce(keys)) }
}

test('a message that was decrypted and not handed over can be opened again, by the next process too', async () => {
  const state = store()
  const first = await opened(state)
  assert.equal((await first.open()).toString(), 'hello')
  assert.equal((await first.open()).toString(), 'hello')
  const next = await opened(state)
  assert.equal((await next.open()).toString(), 'hello')
})

test('what was handed over is not kept', async () => {
  const state = store()
  const { untaken, open } = await opened(state)
  await open()
  untaken.taken('ID1')
  await assert.rejects(open(), /Key used already/)
  await untaken.clear()
  assert.deepEqual([...state.rows.keys()], ['session/a'])
})

test('a step that could not be stored leaves no plaintext behind: the message is decrypted anew', async () => {
  const state = store()
  const { open } = await opened(state)
  state.broken = true
  await assert.rejects(open(), /the store is away/)
  state.broken = false
  assert.equal((await open()).toString(), 'hello')
  assert.deepEqual([...state.rows.keys()].sort(), ['session/a', 'standfast-inbox/untaken'])
})

test('held frames leave in their order, and no later than the limit', async () => {
  const sent = []
  const socket = {
    close: () => sent.push('closed'),
    send: (data, done) => {
      sent.push(data)
      done?.()
    },
  }
  const hold = new FrameHold(socket)
  socket.send(1)
  const first = hold.hold()
  await new Promise((resolve) => socket.send(2, resolve))
  socket.send(3)
  assert.deepEqual(sent, [1])
  first.release()
  socket.send(4)
  assert.deepEqual(sent, [1, 2, 3, 4])
  hold.hold()
  socket.send(5)
  await hold.released()
  hold.hold()
  socket.send(6)
  socket.close()
  assert.deepEqual(sent, [1, 2, 3, 4, 5, 6, 'closed'])
})

test('a receipt passes no message before it that nobody has taken, not even when the socket closes', async () => {
  const sent = []
  const socket = { close: () => {}, send: (data) => sent.push(data) }
  const hold = new FrameHold(socket)
  const one = hold.hold()
  one.keep()
  socket.send('receipt of one')
  const two = hold.hold()
  two.keep()
  socket.send('receipt of two')
  two.release()
  assert.deepEqual(sent, [])
  one.release()
  assert.deepEqual(sent, ['receipt of one', 'receipt of two'])
  const three = hold.hold()
  three.keep()
  socket.send('receipt of three')
  socket.close()
  assert.equal(sent.length, 2)
})

test('a receipt for what nobody has kept does not leave with the close', () => {
  const sent = []
  const socket = { send: (data) => sent.push(data), close: () => {} }
  const hold = new FrameHold(socket)
  hold.hold()
  socket.send('receipt')
  hold.keepBack()
  socket.close()
  assert.deepEqual(sent, [])
})

test('an ending socket handles the message that it has begun and leaves the rest of a backlog', async () => {
  const arrival = new Arrival()
  const begun = []
  let finish
  const first = new Promise((resolve) => {
    finish = resolve
  })
  const ws = Object.assign(new EventEmitter(), { isOpen: true, socket: { send: () => {}, close: () => {} } })
  ws.on('CB:message', async ({ attrs }) => {
    begun.push(attrs.id)
    await first
  })
  arrival.order(ws)
  for (const id of ['one', 'two', 'three']) ws.emit('CB:message', { attrs: { id } })
  await new Promise(setImmediate)
  arrival.ending()
  finish()
  await arrival.settled()
  assert.deepEqual(begun, ['one'])
})
