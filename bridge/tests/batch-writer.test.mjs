/** What gathering writes promises. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BatchWriter } from '../lib/batch-writer.mjs'

function recorder() {
  const sent = []
  const writer = new BatchWriter(async (json) => {
    const data = JSON.parse(json)
    sent.push(data)
    if (JSON.stringify(data).includes('refuse')) throw Object.assign(new Error('refused'), { retryable: false })
    if (JSON.stringify(data).includes('later')) throw Object.assign(new Error('later'), { retryable: true })
  })
  return { sent, writer }
}

test('writes of one turn leave as one frame, the later value of a key winning', async () => {
  const { sent, writer } = recorder()
  await Promise.all([
    writer.write([['session', 'a', '1']]),
    writer.write([
      ['session', 'b', '2'],
      ['pre-key', '1', null],
    ]),
    writer.write([['session', 'a', '3']]),
  ])
  await writer.write([['session', 'c', '4']])
  assert.deepEqual(sent, [{ session: { a: 3, b: 2 }, 'pre-key': { 1: null } }, { session: { c: 4 } }])
})

test('writes that follow from one event share a frame, however many steps later, and leave before the next event', async () => {
  const order = []
  const writer = new BatchWriter(async (json) => order.push(json))
  setImmediate(() => order.push('the next event'))
  const after = async (steps, id) => {
    for (let step = 0; step < steps; step++) await null
    await writer.write([['session', id, '1']])
  }
  await Promise.all([after(1, 'a'), after(40, 'b')])
  await new Promise(setImmediate)
  assert.deepEqual(order, ['{"session":{"a":1,"b":1}}', 'the next event'])
})

test('names that JavaScript treats as special are keys like any other', async () => {
  const { sent, writer } = recorder()
  await writer.write([
    ['session', '__proto__', '1'],
    ['constructor', '2', '2'],
  ])
  assert.equal(JSON.stringify(sent[0]), '{"session":{"__proto__":1},"constructor":{"2":2}}')
})

test('one that is refused for what it holds takes no other with it', async () => {
  const { sent, writer } = recorder()
  const settled = await Promise.allSettled([
    writer.write([['session', 'a', '1']]),
    writer.write([['session', 'b', '"refuse"']]),
    writer.write([['session', 'c', '3']]),
  ])
  assert.deepEqual(
    settled.map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled'],
  )
  assert.deepEqual(sent.slice(1), [{ session: { a: 1 } }, { session: { b: 'refuse' } }, { session: { c: 3 } }])
})

test('a failure that may pass is told to all, and nothing is sent again behind their backs', async () => {
  const { sent, writer } = recorder()
  const settled = await Promise.allSettled([
    writer.write([['session', 'a', '1']]),
    writer.write([['session', 'b', '"later"']]),
  ])
  assert.deepEqual(
    settled.map(({ status }) => status),
    ['rejected', 'rejected'],
  )
  assert.equal(sent.length, 1)
})

test('a large write does not wait for a larger frame', async () => {
  const { sent, writer } = recorder()
  const large = JSON.stringify('x'.repeat(3 * 1024 * 1024))
  await Promise.all([writer.write([['session', 'a', large]]), writer.write([['session', 'b', large]])])
  assert.equal(sent.length, 2)
})
