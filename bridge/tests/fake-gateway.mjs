/**
 * Owns an in-memory gateway for tests: the protocol's other end with auth state in Maps. The real one is Python's.
 *
 * Invariant: what crosses it is kept as JSON, so that tests see what would be stored.
 */

import { rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { FrameSplitter } from '../lib/frames.mjs'

const LIMITS = { frame_bytes: 16 * 1024 * 1024, in_flight: 1024 }

export class FakeGateway {
  constructor(socketPath, { token = 'made-up-token', limits = LIMITS } = {}) {
    this.socketPath = socketPath
    this.token = token
    this.limits = limits
    /** company → { creds: JSON or null, keys: Map of "type/id" → JSON } */
    this.companies = new Map()
    this.calls = []
    this.events = []
    this.received = new Set()
    /** What was sent, for receivers that ask for it again: message id → base64. */
    this.contents = new Map()
    this.unanswered = 0
    this.mostUnanswered = 0
    this.peers = new Set()
    this.holders = new Map()
    /** Test hook: may throw a wire error, delay, or return 'silence' to leave the request unanswered. */
    this.before = async () => {}
    /** Test hook: runs after the effect, before the answer. */
    this.after = async () => {}
    /** Test hook: runs in the same turn in which the answer was written. */
    this.answered = () => {}
  }

  async start() {
    await rm(this.socketPath, { force: true })
    this.server = createServer((socket) => this.peers.add(new Peer(this, socket)))
    await new Promise((resolve) => this.server.listen(this.socketPath, resolve))
    return this
  }

  /** Stops listening and cuts every connection, as a crash would. */
  async stop() {
    for (const peer of this.peers) peer.socket.destroy()
    const closed = new Promise((resolve) => this.server.close(resolve))
    await closed
    await rm(this.socketPath, { force: true })
  }

  company(name) {
    if (!this.companies.has(name)) this.companies.set(name, { creds: null, keys: new Map() })
    return this.companies.get(name)
  }

  /** Takes the company from who holds it, as a takeover by another node does. */
  revoke(company, error) {
    const holder = this.holders.get(company)
    this.holders.delete(company)
    holder.send({ method: 'auth.lost', params: { company, error: { message: error.message, ...error } } })
  }

  /** The connected host; resolves once it has shaken hands. */
  async host(timeoutMs = 10_000) {
    return until(() => [...this.peers].find((peer) => peer.role === 'host'), 'a host', timeoutMs)
  }

  /** The first event that matches, past ones included. */
  async event(matches, timeoutMs = 15_000) {
    return until(
      () => this.events.find(matches),
      `event ${matches}`,
      timeoutMs,
      () => this.events,
    )
  }
}

class Peer {
  constructor(gateway, socket) {
    this.gateway = gateway
    this.socket = socket
    this.pending = new Map()
    this.nextId = 1
    this.lanes = new Map()
    const splitter = new FrameSplitter(gateway.limits.frame_bytes)
    socket.on('data', (chunk) => {
      for (const frame of splitter.push(chunk)) this.receive(JSON.parse(frame))
    })
    socket.on('error', () => {})
    socket.on('close', () => this.gone())
  }

  gone() {
    this.gateway.peers.delete(this)
    for (const [company, peer] of this.gateway.holders) if (peer === this) this.gateway.holders.delete(company)
    for (const { reject } of this.pending.values()) reject(new Error('peer gone'))
  }

  send(frame) {
    this.socket.write(`${JSON.stringify(frame)}\n`)
  }

  request(method, params) {
    const id = this.nextId++
    return new Promise((resolve, reject) => {
      this.pending.set(id, { resolve, reject })
      this.send({ id, method, params })
    })
  }

  receive(frame) {
    if (frame.method === undefined) return this.settle(frame)
    if (frame.id === undefined) return this.gateway.events.push(frame.params)
    this.gateway.mostUnanswered = Math.max(this.gateway.mostUnanswered, ++this.gateway.unanswered)
    // Requests of one company are served one after the other, as the protocol promises for batches.
    const lane = frame.params?.company ?? ''
    this.lanes.set(
      lane,
      (this.lanes.get(lane) ?? Promise.resolve()).then(() => this.serve(frame)),
    )
  }

  settle({ id, result, error }) {
    const request = this.pending.get(id)
    this.pending.delete(id)
    if (error) request?.reject(Object.assign(new Error(error.message), error))
    else request?.resolve(result)
  }

  async serve({ id, method, params }) {
    const { gateway } = this
    gateway.calls.push({ method, params })
    try {
      if ((await gateway.before(method, params)) === 'silence') return
      const result = this.result(method, params)
      await gateway.after(method, params)
      gateway.unanswered--
      this.send({ id, result })
      gateway.answered(this, method)
    } catch (error) {
      gateway.unanswered--
      this.send({ id, error: { code: error.code ?? 'internal', message: error.message, ...error } })
    }
  }

  result(method, params) {
    if (method === 'hello') return this.hello(params)
    if (method === 'message.received') return this.received(params)
    if (method === 'message.content') return { content: this.gateway.contents.get(params.message_id) ?? null }
    return this.auth(method, params)
  }

  /** Kept once: a second delivery is answered like the first, and is no event. */
  received({ company, generation, message }) {
    const { gateway } = this
    const name = `${company} ${message.chat} ${message.id}`
    if (!gateway.received.has(name)) gateway.events.push({ company, generation, kind: 'message', message })
    gateway.received.add(name)
    return null
  }

  hello({ protocol, role, token }) {
    if (protocol !== 1) throw refusal('protocol', 'another protocol version')
    if (role === 'host' && token !== this.gateway.token) throw refusal('protocol', 'wrong token')
    this.role = role
    return { protocol: 1, service: 'fake/1', limits: this.gateway.limits }
  }

  auth(method, params) {
    const { gateway } = this
    const { company } = params
    const stored = gateway.company(company)
    if (method === 'auth.open') return this.open(params, stored)
    if (gateway.holders.get(company) !== this) throw refusal('company_in_use', 'not opened by this connection')
    if (method === 'auth.close') gateway.holders.delete(company)
    if (method === 'creds.create' && stored.creds) throw refusal('company_in_use', 'creds exist')
    if (method === 'creds.create' || method === 'creds.save') stored.creds = JSON.stringify(params.creds)
    if (method === 'keys.get') return read(stored.keys, params)
    if (method === 'keys.set') write(stored.keys, params.data)
    if (method !== 'keys.clear') return null
    const count = stored.keys.size
    stored.keys.clear()
    return count
  }

  open({ company, pair, client }, stored) {
    const holder = this.gateway.holders.get(company)
    if (holder && holder !== this) throw refusal('company_in_use', 'held by another connection')
    if (!stored.creds && !pair) throw refusal('company_unknown', 'no auth state')
    this.gateway.holders.set(company, this)
    const overtaken = stored.client !== undefined && stored.client !== client
    stored.client = client
    return { creds: stored.creds && JSON.parse(stored.creds), overtaken }
  }
}

function read(keys, { type, ids }) {
  const found = {}
  for (const id of ids) if (keys.has(`${type}/${id}`)) found[id] = JSON.parse(keys.get(`${type}/${id}`))
  return found
}

function write(keys, data) {
  for (const [type, values] of Object.entries(data)) {
    for (const [id, value] of Object.entries(values)) {
      if (value === null) keys.delete(`${type}/${id}`)
      else keys.set(`${type}/${id}`, JSON.stringify(value))
    }
  }
}

/** A wire error to throw from a hook. */
export function refusal(code, message, retryable = false) {
  return Object.assign(new Error(message), { code, next_step: 'made-up next step', retryable })
}

/** Polls until `probe` returns something truthy; fails with `describe()` after the deadline. */
export async function until(probe, what, timeoutMs = 10_000, describe = () => '') {
  const deadline = Date.now() + timeoutMs
  for (;;) {
    const value = await probe()
    if (value) return value
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs} ms for ${what} ${JSON.stringify(describe())}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
