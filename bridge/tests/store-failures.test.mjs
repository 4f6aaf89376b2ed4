/** What becomes of messages while the store behind a socket fails: real Baileys clients over stores that refuse. */

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { StandfastError } from '../lib/errors.mjs'
import { signalStoreOver } from '../lib/signal-repository.mjs'
import { TestClient } from '../simulator/testing/client.mjs'
import { eventually, SimulatorProcess } from '../simulator/testing/harness.mjs'

const [ANNA, BORIS, CLARA] = ['79990000031', '79990000032', '79990000033']
const UNWRITABLE = new StandfastError('journal_unwritable', 'the disk is full', { retryable: true })
const FENCED = new StandfastError('company_in_use', 'another node has it', { retryable: false })
let simulator, anna, boris, clara

/** A client as a bot of one's own is: `refuses(data)` names the error with which its store refuses a batch. */
function guarded(phone) {
  const client = new TestClient(simulator, phone)
  const { values } = client
  const found = (type, ids) => ids.map((id) => [id, values.get(`${type}/${id}`)]).filter(([, value]) => value)
  client.refuses = () => null
  client.refused = 0
  const { keys, makeSignalRepository } = signalStoreOver({
    get: async (type, ids) => Object.fromEntries(found(type, ids)),
    set: async (data) => {
      const error = client.refuses(data)
      if (error) client.refused++
      if (error) throw error
      for (const type in data) for (const id in data[type]) values.set(`${type}/${id}`, data[type][id])
    },
  })
  client.options = { socket: { auth: { creds: client.creds, keys }, makeSignalRepository } }
  return client
}

async function paired(client) {
  client.connect()
  await simulator.must('POST', '/scan', { qr: await eventually(() => client.qr, 'a QR'), phone: client.phone })
  await client.whenOpen()
  return client
}

async function acquaint(one, other) {
  for (const [from, to] of [
    [one, other],
    [other, one],
  ]) {
    await from.send(to.phone, `${from.phone} greets`)
    await eventually(() => to.received(`${from.phone} greets`).length === 1, 'the first message')
  }
}

before(async () => {
  simulator = await SimulatorProcess.temporary()
  ;[anna, boris, clara] = await Promise.all([ANNA, BORIS, CLARA].map((phone) => paired(guarded(phone))))
  await acquaint(anna, boris)
})
after(async () => {
  await Promise.all([anna, boris, clara].map((client) => client.disconnect()))
  await simulator.remove()
})

const stats = () => simulator.must('GET', '/stats')
const queuedFor = async (phone) => (await simulator.must('GET', `/phones/${phone}/devices`)).devices[0].queued
/** Messages that somebody could not decrypt: each was asked for again or refused to the server. */
const failures = async () => {
  const { retries, nacks } = await stats()
  return retries + nacks
}
const stepsDevice = (data) => Object.keys(data.session ?? {}).some((id) => id.endsWith('.1'))

async function refusedAtOnce(sending, code) {
  const began = performance.now()
  await assert.rejects(sending, { code })
  assert.ok(performance.now() - began < 2_000, `refused after ${performance.now() - began} ms`)
}

test('a message of which one step could not be stored leaves for nobody', async () => {
  const before = await stats()
  anna.refuses = (data) => (stepsDevice(data) ? UNWRITABLE : null)
  await refusedAtOnce(anna.send(BORIS, 'not sent'), 'journal_unwritable')
  assert.equal(anna.refused, 1, 'the steps for the other devices were stored')
  anna.refuses = () => null
  await anna.send(BORIS, 'sent')
  await eventually(() => boris.received('sent').length === 1, 'what was sent after')
  assert.deepEqual(boris.received('not'), [])
  assert.equal((await stats()).messages_in, before.messages_in + 1)
})

test('a message to a group of which one step could not be stored leaves for nobody', async () => {
  const { jid } = await simulator.must('POST', '/groups', { subject: 'g', participants: [ANNA, BORIS, CLARA] })
  const before = await stats()
  anna.refuses = (data) => (stepsDevice(data) ? UNWRITABLE : null)
  await refusedAtOnce(anna.send(jid, 'not to the group'), 'journal_unwritable')
  anna.refuses = (data) => (data['sender-key'] ? UNWRITABLE : null)
  await refusedAtOnce(anna.send(jid, 'not to the group'), 'journal_unwritable')
  assert.equal((await stats()).messages_in, before.messages_in)
  anna.refuses = () => null
  await anna.send(jid, 'to the group')
  for (const member of [boris, clara]) await eventually(() => member.received('to the group').length === 1, 'the text')
})

test('what arrives while nothing can be stored waits unconfirmed, sends are refused meanwhile, nothing is lost', async () => {
  const before = await failures()
  boris.refuses = () => UNWRITABLE
  const texts = ['kept 1', 'kept 2', 'kept 3']
  for (const text of texts) await anna.send(BORIS, text)
  await eventually(() => boris.refused > 0, 'an attempt to store')
  await refusedAtOnce(boris.send(ANNA, 'not answered'), 'journal_unwritable')
  assert.deepEqual(boris.received('kept'), [])
  assert.ok((await queuedFor(BORIS)) >= 1, 'the server still has it')
  boris.refuses = () => null
  await eventually(() => boris.received('kept').length >= 3, 'what was kept')
  assert.deepEqual(boris.received('kept').sort(), texts)
  await boris.send(ANNA, 'answered')
  await eventually(() => anna.received('answered').length === 1, 'the answer')
  assert.equal(await failures(), before)
})

test('what arrives after the company was lost stays with the server, for the next owner', async () => {
  const before = await failures()
  boris.refuses = () => FENCED
  const refused = boris.refused
  await anna.send(BORIS, 'for the next owner')
  await eventually(() => boris.refused > refused, 'an attempt to store')
  await refusedAtOnce(boris.send(ANNA, 'not from a former owner'), 'company_in_use')
  await boris.disconnect()
  assert.ok((await queuedFor(BORIS)) >= 1, 'the server still has it')
  boris.refuses = () => null
  boris.connect()
  await boris.whenOpen()
  await eventually(() => boris.received('for the next').length === 1, 'the message')
  assert.deepEqual(anna.received('not'), [])
  assert.equal(await failures(), before)
})
