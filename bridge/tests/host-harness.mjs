/**
 * Owns the surroundings of host tests: a simulator process, a fake gateway, and the real host process between them.
 *
 * Invariant: whatever a test starts here is ended with the test, by process id, within a deadline.
 */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { FakeGateway, until } from './fake-gateway.mjs'

const HOST = fileURLToPath(new URL('../host.mjs', import.meta.url))
const SIMULATOR = fileURLToPath(new URL('../simulator/main.mjs', import.meta.url))
const START_TIMEOUT_MS = 20_000

/** A simulator, a gateway and a host that is attached to it. */
export async function world(t, options = {}) {
  const directory = await mkdtemp(join(tmpdir(), 'host-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  const simulator = await startSimulator(t, directory)
  const gateway = await new FakeGateway(join(directory, 'gateway.sock')).start()
  t.after(() => gateway.stop().catch(() => {}))
  const made = new World({ directory, simulator, gateway, t })
  if (options.host !== false) await made.startHost()
  return made
}

async function startSimulator(t, directory) {
  const child = spawn(process.execPath, [SIMULATOR, '--state', join(directory, 'simulator')], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  t.after(() => end(child))
  const lines = createInterface({ input: child.stdout })
  const [line] = await once(lines, 'line', { signal: AbortSignal.timeout(START_TIMEOUT_MS) })
  return { child, ...JSON.parse(line) }
}

export class World {
  constructor(parts) {
    Object.assign(this, parts)
    this.generations = new Map()
  }

  /** Starts a host process and waits for its handshake; `host.errors` collects what it writes to standard error. */
  async startHost(env = {}, argv = []) {
    const child = spawn(process.execPath, [...argv, HOST], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { PATH: process.env.PATH, ...this.hostEnvironment(), ...env },
    })
    this.t.after(() => end(child))
    child.output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data) => {
        child.output += data
      })
    }
    child.exited = once(child, 'exit').then(([code]) => code)
    this.child = child
    this.peer = await Promise.race([this.gateway.host(START_TIMEOUT_MS), child.exited.then(() => null)])
    return child
  }

  hostEnvironment() {
    return {
      STANDFAST_SOCKET: this.gateway.socketPath,
      STANDFAST_HOST_TOKEN: this.gateway.token,
      STANDFAST_WA_URL: this.simulator.url,
      STANDFAST_WA_ROOT_KEY: this.simulator.root_key,
    }
  }

  /** POSTs to the simulator's admin API; throws with its answer if it is not 2xx. */
  async admin(method, path, body) {
    const response = await fetch(`${this.simulator.admin}${path}`, {
      method,
      headers: { 'content-type': 'application/json' },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(15_000),
    })
    const answer = await response.json()
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${JSON.stringify(answer)}`)
    return answer
  }

  /** Starts the next generation of a company. */
  async start(company, pair = null) {
    const generation = (this.generations.get(company) ?? 0) + 1
    this.generations.set(company, generation)
    await this.peer.request('session.start', { company, generation, pair })
    return generation
  }

  event(company, kind, timeoutMs) {
    const generation = this.generations.get(company)
    const matches = (e) => e.company === company && e.generation === generation && e.kind === kind
    return this.gateway.event(matches, timeoutMs)
  }

  /** Pairs by QR, goes through 515, and waits until it is open. */
  async paired(company, phone) {
    await this.start(company, { by: 'qr' })
    const { qr } = await this.event(company, 'qr')
    await this.admin('POST', '/scan', { qr, phone })
    await this.reopened(company)
  }

  /** After a pairing: the 515 and the login that follows it. */
  async reopened(company) {
    await this.event(company, 'paired')
    const closed = await this.event(company, 'closed')
    if (closed.status !== 515) throw new Error(`closed with ${closed.status} instead of 515`)
    await this.opened(company)
  }

  async opened(company) {
    await this.start(company)
    return this.event(company, 'open')
  }

  send(company, phone, text, more = {}) {
    const generation = this.generations.get(company)
    const jid = phone.includes('@') ? phone : `${phone}@s.whatsapp.net`
    return this.peer.request('message.send', { company, generation, jid, content: { text }, ...more })
  }

  stop(company) {
    return this.peer.request('session.stop', { company, generation: this.generations.get(company) })
  }

  /** Texts that a company received, in the order of its events. */
  texts(company) {
    const messages = this.gateway.events.filter((e) => e.company === company && e.kind === 'message')
    return messages.map((e) => e.message.text)
  }

  async received(company, texts, timeoutMs = 20_000) {
    await until(
      () => this.texts(company).length >= texts.length,
      `${texts.length} messages`,
      timeoutMs,
      () => ({
        got: this.texts(company),
        undecryptable: this.gateway.events.filter((e) => e.kind === 'undecryptable'),
      }),
    )
    return this.texts(company)
  }
}

async function end(child) {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
}
