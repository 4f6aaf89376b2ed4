/**
 * Owns: which linked device is connected, and delivery to it: at once when it is active, from its queue otherwise.
 * Invariant: one connection a device; a newer login evicts the older one.
 */

import { ackKey } from './queues.mjs'
import { deviceKey } from './registry.mjs'
import { lidJid, loginFailure, nowS, pnJid, SERVER, streamError } from './stanzas.mjs'

/** A client that does not acknowledge its backlog gets live traffic unmarked after this time. */
const BACKLOG_TIMEOUT_MS = 10_000
const ROUTING_INFO = Buffer.from([8, 5, 8, 2])

export class Logins {
  #registry
  #queues
  #faults
  #stats
  #online = new Map()

  constructor({ registry, queues, faults, stats }) {
    this.#registry = registry
    this.#queues = queues
    this.#faults = faults
    this.#stats = stats
  }

  connectionOf(device) {
    return this.#online.get(deviceKey(device.phone, device.id)) ?? null
  }

  isOnline(device) {
    return this.connectionOf(device)?.active ?? false
  }

  /** Lets a known device in, with the noise key it was paired with, and turns everyone else away. */
  login(connection, payload) {
    const phone = String(payload.username)
    const refusal = this.#faults.take('refuse-login', phone)
    const account = this.#registry.account(phone)
    const device = account?.devices[payload.device ?? 0]
    const genuine = device && Buffer.from(device.noiseKey).equals(connection.clientStatic)
    if (refusal || !genuine) {
      this.#stats.logins_refused++
      return connection.close(loginFailure(refusal?.reason ?? 401))
    }
    this.#evict(device)
    Object.assign(connection, { account, device })
    this.#online.set(deviceKey(phone, device.id), connection)
    this.#stats.logins++
    this.#faults.onLogin(connection)
    connection.send({
      tag: 'success',
      attrs: { t: nowS(), lid: lidJid(account.lid, device.id), props: '1', location: 'sim' },
    })
  }

  logout(connection) {
    const { device } = connection
    if (device && this.connectionOf(device) === connection) this.#online.delete(deviceKey(device.phone, device.id))
  }

  /** Called when the client declares itself active: what waited goes out first, marked offline, then live traffic. */
  activate(connection) {
    if (connection.active || !connection.device) return
    const waiting = this.#queues.waiting(connection.device)
    connection.send(ib('offline_preview', countsOf(waiting)))
    connection.backlog = new Set()
    for (const stanza of waiting) this.#sendOffline(connection, stanza)
    setTimeout(() => connection.backlog.clear(), BACKLOG_TIMEOUT_MS).unref()
    connection.active = true
    connection.send(ib('offline', { count: String(waiting.length) }))
    const routing = { tag: 'routing_info', attrs: {}, content: ROUTING_INFO }
    connection.send({
      tag: 'ib',
      attrs: { from: SERVER },
      content: [{ tag: 'edge_routing', attrs: {}, content: [routing] }],
    })
  }

  /** Keeps the stanza until the device acknowledges it, and sends it now if the device is online. */
  deliver(device, stanza) {
    this.#queues.put(device, stanza)
    const connection = this.connectionOf(device)
    if (!connection?.active) return void this.#stats.queued++
    // Baileys handles offline stanzas one after the other beside live ones: a live one would overtake the backlog.
    if (connection.backlog.size) return this.#sendOffline(connection, stanza)
    connection.send(stanza)
    this.#stats.delivered++
    if (stanza.tag === 'message' && this.#faults.take('duplicate', device.phone)) connection.send(stanza)
  }

  /** The client acknowledged what the key names; true where it was still waiting. */
  acknowledge(connection, key) {
    connection.backlog?.delete(key)
    return this.#queues.acknowledge(connection.device, key)
  }

  /** The user removes the device in the phone: it is logged out now and refused from then on. */
  unlink(account, device) {
    const connection = this.connectionOf(device)
    this.#registry.removeDevice(account, device.id)
    this.#queues.drop(device)
    if (connection) {
      this.logout(connection)
      connection.close(streamError(401))
    }
    this.announceDevices(account, 'remove', device.id)
  }

  /** Tells every connected client that asked for this account's devices about the change, so that its cache follows. */
  announceDevices(account, change, deviceId) {
    for (const connection of this.#online.values()) {
      if (!connection.active || !connection.watching.has(account.phone)) continue
      connection.send(devicesNotification(account, change, deviceId))
    }
  }

  #sendOffline(connection, stanza) {
    connection.send({ ...stanza, attrs: { ...stanza.attrs, offline: String(connection.backlog.size) } })
    connection.backlog.add(ackKey(stanza))
    this.#stats.delivered_offline++
  }

  #evict(device) {
    const older = this.connectionOf(device)
    if (!older) return
    this.#stats.evictions++
    this.logout(older)
    older.close(streamError(440))
  }
}

const ib = (tag, attrs) => ({ tag: 'ib', attrs: { from: SERVER }, content: [{ tag, attrs }] })

function countsOf(stanzas) {
  const count = (tag) => String(stanzas.filter((stanza) => stanza.tag === tag).length)
  return {
    count: String(stanzas.length),
    message: count('message'),
    receipt: count('receipt'),
    notification: count('notification'),
    t: nowS(),
  }
}

let notificationSeq = 0

/** Both addresses are named because a client caches device lists by the address it asked with. */
function devicesNotification(account, change, deviceId) {
  const device = (jid) => ({ tag: 'device', attrs: { jid, 'key-index': String(deviceId) } })
  const jids = [pnJid(account.phone, deviceId), lidJid(account.lid, deviceId)]
  return {
    tag: 'notification',
    attrs: { id: `devices-${Date.now()}-${++notificationSeq}`, type: 'devices', from: pnJid(account.phone), t: nowS() },
    content: [{ tag: change, attrs: { device_hash: '2:sim' }, content: jids.map(device) }],
  }
}
