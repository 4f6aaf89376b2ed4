/**
 * Owns a connection to the gateway that outlives interruptions, for one company.
 *
 * Invariant: calls reach the gateway in the order in which they were made, also when they have to be sent again;
 * all calls of the auth state may be repeated. A call is settled within its deadline, connected or not.
 * After an interruption the company is opened again first. A changed identity, or another owner of the company, ends
 * the link for good: nothing is served or sent again, and whoever uses it is told once.
 */

import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { credsOf, identityOf } from './company-auth.mjs'
import { fromWire, StandfastError } from './errors.mjs'
import { connectWire } from './wire.mjs'

const FIRST_DELAY_MS = 100
const MAX_DELAY_MS = 3_000

export class GatewayLink {
  /** Tells this client from others at the gateway. */
  client = randomUUID()
  #options
  #wire = null
  #pending = new Map()
  #nextNumber = 1
  #ended = null
  #stop = new AbortController()
  /** Why the connection is not back yet: the best thing to tell a caller whose time is over. */
  #obstacle = null
  /** Set by the user once the company is open: what to compare with and to tell after an interruption. */
  #auth = null

  /**
   * @param {{ socketPath: string, client: string, company: string, pair: boolean, callTimeoutMs: number, logger,
   *   onLost?: (error: StandfastError) => void }} options `onLost` is told why an open company was lost for good
   */
  constructor(options) {
    this.#options = options
    this.logger = options.logger
  }

  /** Makes the first connection, trying again until `timeoutMs` while no service listens. */
  async connect(timeoutMs) {
    const deadline = Date.now() + timeoutMs
    for (let delayMs = FIRST_DELAY_MS; ; delayMs = nextDelay(delayMs)) {
      try {
        return this.#adopt(await this.#connectOnce())
      } catch (error) {
        if (!error.retryable || Date.now() + delayMs > deadline) throw error
        this.#options.logger?.warn({ code: error.code }, 'waiting for the Standfast service')
      }
      await sleep(delayMs)
    }
  }

  /** From now on interruptions are mended: the company of `auth` is opened again on each new connection. */
  attach(auth) {
    this.#auth = auth
  }

  /** Resolves to the answer; rejects with the gateway's error or, after the deadline, `service_unavailable`. */
  call(method, paramsJson) {
    return new Promise((resolve, reject) => {
      if (this.#ended) return reject(this.#ended)
      // The end of a connection has given the company back already.
      if (method === 'auth.close' && !this.#wire) return resolve(null)
      const number = this.#nextNumber++
      const { callTimeoutMs } = this.#options
      const timer = setTimeout(() => this.#settle(number, this.#overdue(method)), callTimeoutMs)
      this.#pending.set(number, { method, paramsJson, resolve, reject, timer })
      if (this.#wire) this.#send(number)
    })
  }

  close() {
    this.#auth = null
    this.#end(new StandfastError('service_unavailable', 'this connection was closed', { retryable: false }))
  }

  #overdue(method) {
    if (this.#obstacle) return this.#obstacle
    const message = `the gateway did not answer ${method} in ${this.#options.callTimeoutMs} ms`
    return new StandfastError('service_unavailable', message)
  }

  #connectOnce() {
    const { socketPath, client } = this.#options
    const onNotification = (method, params) => this.#notified(method, params)
    return connectWire({ socketPath, role: 'auth-state', client, onNotification })
  }

  #notified(method, { company, error }) {
    if (method === 'auth.lost' && company === this.#options.company) this.#end(fromWire(error))
  }

  #adopt(wire) {
    if (this.#ended) return wire.close()
    this.#wire = wire
    for (const number of this.#pending.keys()) this.#send(number)
    void wire.closed.then((reason) => this.#interrupted(wire, reason))
  }

  #send(number) {
    const { method, paramsJson } = this.#pending.get(number)
    const wire = this.#wire
    const timeoutMs = this.#options.callTimeoutMs
    wire.requestJson(this.#methodNow(method), paramsJson, { timeoutMs }).then(
      (result) => this.#settle(number, null, result),
      (error) => {
        // Not the gateway's refusal but the loss of this wire: the call stays pending and is sent again.
        if (error !== wire.endReason) this.#settle(number, error)
      },
    )
  }

  /** A creation whose answer was lost has been applied if creds are there: then it is an ordinary save. */
  #methodNow(method) {
    return method === 'creds.create' && this.#auth?.created ? 'creds.save' : method
  }

  #settle(number, error, result) {
    const call = this.#pending.get(number)
    if (!call) return
    this.#pending.delete(number)
    clearTimeout(call.timer)
    if (error) call.reject(error)
    else call.resolve(result)
  }

  #interrupted(wire, reason) {
    if (this.#wire !== wire) return
    this.#wire = null
    if (this.#ended) return
    for (const [number, { method }] of [...this.#pending]) if (method === 'auth.close') this.#settle(number, null, null)
    if (!this.#auth) return this.#end(reason)
    this.#options.logger?.warn({ code: reason.code }, 'connection to the gateway lost, connecting again')
    void this.#reconnect()
  }

  async #reconnect() {
    for (let delayMs = FIRST_DELAY_MS; !this.#ended; delayMs = nextDelay(delayMs)) {
      await sleep(delayMs, undefined, { signal: this.#stop.signal }).catch(() => {})
      if (this.#ended) return
      try {
        return await this.#reopen()
      } catch (error) {
        if (isFinal(error)) return this.#end(error)
        this.#obstacle = error
        this.#options.logger?.warn({ code: error.code }, 'the gateway is not back yet')
      }
    }
  }

  async #reopen() {
    const wire = await this.#connectOnce()
    try {
      const { company } = this.#options
      const pair = this.#options.pair && !this.#auth.created
      const params = { company, pair, client: this.client }
      const opened = await wire.request('auth.open', params, { timeoutMs: this.#options.callTimeoutMs })
      this.#verify(credsOf(opened, pair))
      if (opened.overtaken) this.#dropWrites()
    } catch (error) {
      wire.close()
      throw error
    }
    this.#obstacle = null
    this.#auth.reset()
    this.#options.logger?.info('connected to the gateway again')
    this.#adopt(wire)
  }

  /** Another client has held the company since: what was not answered must not come on top of what that one wrote. */
  #dropWrites() {
    const message = 'another client held the company while the connection to the gateway was lost'
    for (const [number, { method }] of [...this.#pending]) {
      if (method !== 'keys.get') this.#settle(number, new StandfastError('company_in_use', message))
    }
  }

  #verify(rawCreds) {
    if (rawCreds === null) return
    if (identityOf(rawCreds) !== identityOf(this.#auth.creds)) {
      const nextStep = 'Stop this bot: the company was paired anew elsewhere. Start it again to use the new creds.'
      throw new StandfastError('company_in_use', 'the stored creds are of another identity now', {
        nextStep,
        facts: { identity_changed: true },
      })
    }
    this.#auth.created = true
  }

  #end(error) {
    if (this.#ended) return
    this.#ended = error
    this.#stop.abort()
    this.#wire?.close()
    this.#wire = null
    for (const number of [...this.#pending.keys()]) this.#settle(number, error)
    if (this.#auth) this.#lost(this.#auth, error)
  }

  #lost(auth, error) {
    auth.abandon(error)
    this.#options.logger?.error({ code: error.code }, `the company is lost: ${error.message}`)
    // In a turn of its own: what the bot does then, or fails to do, is no part of what was under way.
    setImmediate(() => this.#options.onLost?.(error))
  }
}

/**
 * The old connection may still hold the company for a moment. Everything else that cannot heal ends the link: another
 * identity, and another node (`holder`), which writes what this client does not know.
 */
function isFinal(error) {
  if (error.retryable) return false
  return error.code !== 'company_in_use' || Boolean(error.facts?.identity_changed || error.facts?.holder)
}

function nextDelay(delayMs) {
  return Math.min(delayMs * 2, MAX_DELAY_MS)
}
