/**
 * Owns: the faults an operator injects, their limits, and applying them to connections.
 * Invariant: a fault ends by its count, its time or its deletion, and a stalled or delayed connection then recovers.
 */
import { AdminError } from './admin-errors.mjs'
import { streamError } from './stanzas.mjs'

const KINDS = {
  close: { needs: 'code' },
  drop: {},
  stall: {},
  delay: { needs: 'ms' },
  'refuse-login': {},
  duplicate: {},
  'refuse-pairing-code': {},
  'lose-acks': {},
  deaf: {},
  mute: {},
}
/** These strike the connections that are there now, and no later one. */
const MOMENTARY = new Set(['close', 'drop', 'deaf', 'mute'])
const MAX_DELAY_MS = 600_000

export class Faults {
  #faults = new Map()
  #connections
  #stats
  #nextId = 1

  /** `connections` yields the live client connections. */
  constructor({ connections, stats }) {
    this.#connections = connections
    this.#stats = stats
  }

  list() {
    return [...this.#faults.values()].map(({ timer, ...fault }) => fault)
  }

  add(request) {
    const fault = this.#parse(request)
    const affected = this.#strike(fault)
    const isOver = MOMENTARY.has(fault.kind) && !fault.for_ms
    if (!isOver) this.#keep(fault)
    return { ...this.#public(fault), affected }
  }

  remove(id) {
    const fault = this.#faults.get(id)
    if (!fault) return false
    clearTimeout(fault.timer)
    this.#faults.delete(id)
    this.#settle()
    return true
  }

  clear() {
    for (const id of [...this.#faults.keys()]) this.remove(id)
  }

  /** The fault of this kind that applies to the phone, or null. */
  active(kind, phone) {
    for (const fault of this.#faults.values()) if (fault.kind === kind && applies(fault, phone)) return fault
    return null
  }

  /** Like active, and counts one use of it. */
  take(kind, phone) {
    const fault = this.active(kind, phone)
    if (fault) this.#use(fault)
    return fault
  }

  onConnect(connection) {
    this.#settle([connection])
  }

  /** Lasting faults strike a connection as it logs in. */
  onLogin(connection) {
    this.#settle([connection])
    for (const kind of MOMENTARY) {
      const fault = this.take(kind, connection.account.phone)
      if (fault) setImmediate(() => end(fault, connection))
    }
  }

  #strike(fault) {
    if (fault.kind === 'stall' || fault.kind === 'delay') return this.#matching(fault).length
    if (!MOMENTARY.has(fault.kind)) return 0
    const struck = this.#matching(fault).slice(0, fault.count ?? Infinity)
    for (const connection of struck) end(fault, connection)
    this.#stats.faults += struck.length
    return struck.length
  }

  #keep(fault) {
    this.#faults.set(fault.id, fault)
    if (fault.for_ms) fault.timer = setTimeout(() => this.remove(fault.id), fault.for_ms)
    this.#settle()
  }

  #use(fault) {
    this.#stats.faults++
    if (fault.count !== undefined && --fault.count <= 0) this.remove(fault.id)
  }

  /** Brings connections in line with the stall and delay faults now in force. */
  #settle(connections = this.#connections()) {
    for (const connection of connections) {
      const phone = connection.account?.phone
      connection.delayMs = this.active('delay', phone)?.ms ?? 0
      if (this.active('stall', phone)) connection.stall()
      else connection.resume()
    }
  }

  #matching(fault) {
    return [...this.#connections()].filter((connection) => applies(fault, connection.account?.phone))
  }

  #public({ timer, ...fault }) {
    return fault
  }

  #parse(request) {
    const rule = Object.hasOwn(KINDS, request.kind) ? KINDS[request.kind] : null
    if (!rule)
      throw new AdminError(
        400,
        'bad_fault',
        'the fault has no known kind',
        `use one of ${Object.keys(KINDS).join(', ')}`,
      )
    const { kind, phone } = request
    const fault = { id: String(this.#nextId++), kind, phone }
    for (const name of ['code', 'ms', 'reason', 'count', 'for_ms']) {
      if (request[name] !== undefined) fault[name] = wholeNumber(name, request[name])
    }
    if (rule.needs && fault[rule.needs] === undefined) {
      throw new AdminError(
        400,
        'bad_fault',
        `the fault ${kind} needs ${rule.needs}`,
        `add "${rule.needs}" to the request`,
      )
    }
    return fault
  }
}

const applies = (fault, phone) => fault.phone === undefined || fault.phone === phone

function wholeNumber(name, value) {
  if (Number.isInteger(value) && value >= 0 && value <= MAX_DELAY_MS) return value
  throw new AdminError(400, 'bad_fault', `${name} must be a whole number from 0 to ${MAX_DELAY_MS}`, `correct ${name}`)
}

/** A connection that is deaf answers pings and passes nothing else; a mute one passes nothing. 428 is what Baileys reports for a connection that closes without a stream error. */
function end(fault, connection) {
  if (fault.kind === 'deaf' || fault.kind === 'mute') connection.muffle(fault.kind === 'deaf')
  else if (fault.kind === 'drop') connection.reset()
  else connection.close(fault.code === 428 ? undefined : streamError(fault.code))
}
