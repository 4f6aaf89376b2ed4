/**
 * Owns: what tests need to drive a simulator process with real Baileys clients.
 * Invariant: it ends only the process it started; every wait has a deadline.
 */
import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { trustRootKey } from '../baileys-parts.mjs'

const MAIN = fileURLToPath(new URL('../main.mjs', import.meta.url))
const START_TIMEOUT_MS = 15_000
const STOP_TIMEOUT_MS = 5_000
const POLL_MS = 15
const LEFTOVER_TIMER_MS = 20_000

// libsignal prints sessions, private keys among them.
for (const method of ['info', 'log', 'warn', 'error', 'debug']) console[method] = () => {}

// Baileys leaves timers of 20 and 30 s behind when a client ends; they must not keep a finished test file alive.
const originalSetTimeout = globalThis.setTimeout
globalThis.setTimeout = (callback, ms, ...args) => {
  const timer = originalSetTimeout(callback, ms, ...args)
  return ms >= LEFTOVER_TIMER_MS ? timer.unref() : timer
}

/** Polls until check() is truthy and returns its value; throws with `what` after the deadline. */
export async function eventually(check, what, timeoutMs = 10_000) {
  const deadline = Date.now() + timeoutMs
  for (;;) {
    const value = await check()
    if (value) return value
    if (Date.now() > deadline) throw new Error(`not in ${timeoutMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

/** Runs main.mjs with the arguments until it ends: { code, stdout, stderr }. */
export async function runToEnd(args) {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr']) child[name].on('data', (data) => (output[name] += data))
  const timer = setTimeout(() => child.kill('SIGKILL'), START_TIMEOUT_MS)
  const code = await new Promise((resolve) => child.once('close', resolve))
  clearTimeout(timer)
  return { code, ...output }
}

export class SimulatorProcess {
  #child = null
  stderr = ''

  static async temporary() {
    const simulator = new SimulatorProcess()
    simulator.stateDir = await mkdtemp(join(tmpdir(), 'simulator-'))
    await simulator.start()
    return simulator
  }

  get pid() {
    return this.#child.pid
  }

  get stdin() {
    return this.#child.stdin
  }

  /** Starts the process on its state directory; a restart keeps the ports of the first start. */
  async start(extra = []) {
    const args = [
      MAIN,
      '--state',
      this.stateDir,
      '--port',
      this.port ?? '0',
      '--admin-port',
      this.adminPort ?? '0',
      ...extra,
    ]
    this.#child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'pipe'] })
    this.#child.stderr.on('data', (data) => (this.stderr += data))
    const exited = new Promise((_resolve, reject) =>
      this.#child.once('exit', (code) => reject(new Error(`simulator ended with ${code}: ${this.stderr}`))),
    )
    exited.catch(() => {})
    const line = new Promise((resolve) => createInterface({ input: this.#child.stdout }).once('line', resolve))
    const ready = JSON.parse(
      await Promise.race([line, exited, rejectAfter(START_TIMEOUT_MS, 'the simulator was not ready')]),
    )
    this.ready = ready
    this.url = ready.url
    this.admin = ready.admin
    this.port = new URL(ready.url).port
    this.adminPort = new URL(ready.admin).port
    trustRootKey(Buffer.from(ready.root_key, 'base64'))
    return this
  }

  /** Ends the process; resolves with { code, signal, ms }. */
  async kill(signal = 'SIGTERM') {
    const child = this.#child
    if (child.exitCode !== null || child.signalCode) return { code: child.exitCode, signal: child.signalCode, ms: 0 }
    const from = Date.now()
    const ended = new Promise((resolve) =>
      child.once('exit', (code, by) => resolve({ code, signal: by, ms: Date.now() - from })),
    )
    child.kill(signal)
    return Promise.race([ended, rejectAfter(STOP_TIMEOUT_MS, 'the simulator did not end')])
  }

  ended() {
    return new Promise((resolve) => this.#child.once('exit', (code) => resolve(code)))
  }

  async remove() {
    await this.kill('SIGKILL')
    await rm(this.stateDir, { recursive: true, force: true })
  }

  /** One admin request: { status, body }. */
  async call(method, path, body) {
    const response = await fetch(this.admin + path, {
      method,
      headers: { 'content-type': 'application/json' },
      body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body),
      signal: AbortSignal.timeout(25_000),
    })
    return { status: response.status, body: await response.json() }
  }

  /** Like call, but throws on a refusal. */
  async must(method, path, body) {
    const { status, body: answer } = await this.call(method, path, body)
    if (status >= 300) throw new Error(`${method} ${path} answered ${status}: ${JSON.stringify(answer)}`)
    return answer
  }
}

const rejectAfter = (ms, what) =>
  new Promise((_resolve, reject) => setTimeout(() => reject(new Error(what)), ms).unref())
