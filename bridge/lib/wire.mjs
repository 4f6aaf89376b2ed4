/**
 * Owns the client end of the gateway protocol (docs/protocol.md): one connection, requests and notifications both ways.
 *
 * Invariant: every request is settled exactly once: by its answer, by its deadline, or by the end of the connection.
 * A Wire never reconnects; what a lost connection means is the user's decision.
 */

import { createConnection } from 'node:net'
import { asStandfastError, fromWire, StandfastError } from './errors.mjs'
import { FrameSplitter } from './frames.mjs'

export const PROTOCOL = 1
const DEFAULT_LIMITS = { frame_bytes: 16 * 1024 * 1024, in_flight: 1024 }
const REQUEST_TIMEOUT_MS = 30_000
const CONNECT_TIMEOUT_MS = 5_000
/** Beyond this much unread output the peer is taken for hung, as the gateway does with us. */
const UNREAD_LIMIT_BYTES = 64 * 1024 * 1024

/**
 * Connects and shakes hands; resolves to a Wire, or rejects with `service_unavailable` or the gateway's refusal.
 * @param {{ socketPath: string, role: 'auth-state' | 'host' | 'operator', client: string, token?: string,
 *   onRequest?: (method: string, params: object) => Promise<unknown>,
 *   onNotification?: (method: string, params: object) => void, connectTimeoutMs?: number }} options
 */
export async function connectWire(options) {
  const { socketPath, role, client, token, connectTimeoutMs = CONNECT_TIMEOUT_MS } = options
  const socket = await openSocket(socketPath, connectTimeoutMs)
  const wire = new Wire(socket, options)
  try {
    const hello = await wire.request(
      'hello',
      { protocol: PROTOCOL, role, client, token },
      { timeoutMs: connectTimeoutMs },
    )
    wire.limits = { ...DEFAULT_LIMITS, ...hello?.limits }
    return wire
  } catch (error) {
    wire.close()
    throw error
  }
}

function openSocket(socketPath, timeoutMs) {
  return new Promise((resolve, reject) => {
    const socket = createConnection(socketPath)
    const fail = (why) => {
      clearTimeout(timer)
      socket.destroy()
      reject(new StandfastError('service_unavailable', `no Standfast service answers at ${socketPath} (${why})`))
    }
    const timer = setTimeout(fail, timeoutMs, `no connection within ${timeoutMs} ms`)
    const onError = (error) => fail(error.code ?? 'connection failed')
    socket.once('error', onError)
    socket.once('connect', () => {
      clearTimeout(timer)
      socket.off('error', onError)
      resolve(socket)
    })
  })
}

export class Wire {
  #socket
  #splitter = new FrameSplitter(DEFAULT_LIMITS.frame_bytes)
  #pending = new Map()
  #waiting = []
  #nextId = 1
  #inFlight = 0
  #outgoing = []
  #flushPlanned = false
  #onRequest
  #onNotification
  #settleClosed

  constructor(socket, { onRequest, onNotification } = {}) {
    this.#socket = socket
    this.#onRequest = onRequest
    this.#onNotification = onNotification
    this.limits = DEFAULT_LIMITS
    /** Null while the connection stands, then the StandfastError that tells why it ended. */
    this.endReason = null
    /** Resolves to `endReason` when the connection has ended; never rejects. */
    this.closed = new Promise((resolve) => {
      this.#settleClosed = resolve
    })
    socket.on('data', (chunk) => this.#receive(chunk))
    socket.on('error', (error) => this.#end(`connection failed (${error.code ?? 'unknown'})`))
    socket.on('close', () => this.#end('the gateway closed the connection'))
  }

  /** Sends a request; resolves to its parsed result. See `requestJson` for deadline and failure. */
  request(method, params, options) {
    return this.requestJson(method, JSON.stringify(params ?? {}), options)
  }

  /**
   * Sends a request whose params are JSON text already (the hot path encodes once).
   * Rejects with the gateway's error, or `service_unavailable` after `timeoutMs` or when the connection ends.
   */
  requestJson(method, paramsJson, { timeoutMs = REQUEST_TIMEOUT_MS } = {}) {
    return new Promise((resolve, reject) => {
      if (this.endReason) return reject(this.endReason)
      const id = this.#nextId++
      const frame = `{"id":${id},"method":"${method}","params":${paramsJson}}\n`
      const tooLarge = this.#oversize(frame)
      if (tooLarge) return reject(tooLarge)
      const timer = setTimeout(() => this.#expire(id, method, timeoutMs), timeoutMs)
      const request = { frame, resolve, reject, timer, sent: false }
      this.#pending.set(id, request)
      this.#waiting.push(request)
      this.#pump()
    })
  }

  /** Sends a notification. Dropped when the connection has ended; `closed` tells the user. */
  notify(method, params) {
    if (this.endReason) return
    const frame = `{"method":"${method}","params":${JSON.stringify(params)}}\n`
    if (this.#oversize(frame)) return
    this.#write(frame)
  }

  /** Ends the connection after what was written; pending requests are rejected. */
  close() {
    this.#flush()
    this.#socket.end()
    this.#end('closed by this client')
  }

  /** Resolves once everything written so far was handed to the system, or after `timeoutMs`. */
  drained(timeoutMs) {
    this.#flush()
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs)
      this.#socket.write('', () => {
        clearTimeout(timer)
        resolve()
      })
    })
  }

  #oversize(frame) {
    const limit = this.limits.frame_bytes
    if (frame.length * 3 <= limit || Buffer.byteLength(frame) <= limit) return null
    return new StandfastError('protocol', `a frame of ${Buffer.byteLength(frame)} bytes is over the limit of ${limit}`)
  }

  #pump() {
    while (this.#waiting.length > 0 && this.#inFlight < this.limits.in_flight) {
      const request = this.#waiting.shift()
      if (request.settled) continue
      request.sent = true
      this.#inFlight++
      this.#write(request.frame)
      request.frame = ''
    }
  }

  /** Frames of one turn of the event loop leave in one write: a system call costs more than a small frame. */
  #write(frame) {
    this.#outgoing.push(frame)
    if (this.#flushPlanned) return
    this.#flushPlanned = true
    process.nextTick(() => this.#flush())
  }

  #flush() {
    this.#flushPlanned = false
    if (this.#outgoing.length === 0 || this.endReason) return
    this.#socket.write(this.#outgoing.join(''))
    this.#outgoing = []
    if (this.#socket.writableLength > UNREAD_LIMIT_BYTES) {
      this.#end(`the gateway left ${this.#socket.writableLength} bytes unread`)
    }
  }

  #receive(chunk) {
    if (this.endReason) return
    let frames
    try {
      frames = this.#splitter.push(chunk).map(parseFrame)
    } catch (error) {
      const why = error instanceof RangeError ? 'an oversized frame' : 'a malformed frame'
      return this.#end(`the gateway sent ${why}`, 'protocol')
    }
    for (const frame of frames) this.#dispatch(frame)
  }

  #dispatch(frame) {
    if (frame.method === undefined) return this.#settle(frame)
    if (frame.id === undefined) return this.#onNotification?.(frame.method, frame.params ?? {})
    void this.#answer(frame)
  }

  #settle({ id, result, error }) {
    if (id === null) return this.#end(String(error?.message ?? 'the gateway refused the connection'), 'protocol')
    const request = this.#pending.get(id)
    if (request) this.#finish(id, request, error ? fromWire(error) : null, result)
  }

  #expire(id, method, timeoutMs) {
    const request = this.#pending.get(id)
    if (!request) return
    const error = new StandfastError('service_unavailable', `the gateway did not answer ${method} in ${timeoutMs} ms`)
    this.#finish(id, request, error)
  }

  #finish(id, request, error, result) {
    clearTimeout(request.timer)
    this.#pending.delete(id)
    request.settled = true
    if (request.sent) this.#inFlight--
    if (error) request.reject(error)
    else request.resolve(result)
    this.#pump()
  }

  async #answer({ id, method, params }) {
    let answer
    try {
      if (!this.#onRequest) throw new StandfastError('protocol', `this client does not answer ${method}`)
      answer = { id, result: (await this.#onRequest(method, params ?? {})) ?? null }
    } catch (error) {
      answer = { id, error: asStandfastError(error).asWire() }
    }
    if (!this.endReason) this.#write(`${JSON.stringify(answer)}\n`)
  }

  #end(why, code = 'service_unavailable') {
    if (this.endReason) return
    this.endReason = new StandfastError(code, `connection to the gateway ended: ${why}`)
    this.#socket.destroySoon()
    const requests = [...this.#pending.values()]
    this.#pending.clear()
    this.#waiting = []
    for (const request of requests) {
      clearTimeout(request.timer)
      request.settled = true
      request.reject(this.endReason)
    }
    this.#settleClosed(this.endReason)
  }
}

function parseFrame(text) {
  const frame = JSON.parse(text)
  if (typeof frame !== 'object' || frame === null) throw new SyntaxError('a frame is a JSON object')
  return frame
}
