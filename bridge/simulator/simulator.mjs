/**
 * Owns: the wiring of the simulator's rooms into one running server.
 * Invariant: a stanza that a room cannot handle is counted and logged; it never ends the process.
 */
import { chmod, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import pino from 'pino'
import { Admin } from './admin.mjs'
import { trustRootKey } from './baileys-parts.mjs'
import { Bundles } from './bundles.mjs'
import { Contacts } from './contacts.mjs'
import { Directory } from './directory.mjs'
import { Faults } from './faults.mjs'
import { Groups } from './groups.mjs'
import { Journal } from './journal.mjs'
import { Logins } from './logins.mjs'
import { MediaServer } from './media-server.mjs'
import { generateServerKeys, listen } from './noise-server.mjs'
import { Pairing } from './pairing.mjs'
import { PairingCodes } from './pairing-codes.mjs'
import { historySyncStanza } from './phone.mjs'
import { Queries } from './queries.mjs'
import { Queues } from './queues.mjs'
import { Registry } from './registry.mjs'
import { Relay } from './relay.mjs'
import { claimState } from './state-lock.mjs'
import { newStats } from './stats.mjs'

export class Simulator {
  #log
  #stateDir
  #server = null
  #admin = null
  #journal
  #releaseState = null
  #rooms

  constructor({ stateDir, log }) {
    this.#stateDir = stateDir
    this.#log = log
  }

  /** Serves on loopback or `host`: { url, adminUrl, rootKey }. Rejects with the listen or file error. */
  async start({ host, port, adminPort, mediaTls = null }) {
    await mkdir(this.#stateDir, { recursive: true, mode: 0o700 })
    await chmod(this.#stateDir, 0o700)
    this.#releaseState = await claimState(this.#stateDir)
    this.#journal = await Journal.open(join(this.#stateDir, 'simulator.journal'), this.#log)
    const serverKeys = await this.#serverKeys()
    trustRootKey(serverKeys.root.public)
    this.#rooms = this.#furnish()
    if (mediaTls) await this.#rooms.media.listen(host, mediaTls)
    this.#server = await listen({ host, port, serverKeys, handlers: this.#handlers() })
    const url = `ws://${urlHost(host)}:${this.#server.port}/ws/chat`
    this.#admin = new Admin({ ...this.#rooms, connections: () => this.#server.connections, log: this.#log })
    const boundAdminPort = await this.#admin.listen(host, adminPort)
    this.#rooms.contacts.restore(url)
    return {
      url,
      adminUrl: `http://${urlHost(host)}:${boundAdminPort}`,
      rootKey: serverKeys.root.public.toString('base64'),
    }
  }

  async close() {
    await this.#rooms?.contacts.close()
    await this.#admin?.close()
    await this.#server?.close()
    await this.#rooms?.media.close()
    this.#journal?.put('clean', true)
    await this.#journal?.close()
    await this.#releaseState?.()
  }

  async #serverKeys() {
    if (!this.#journal.get('server-keys')) this.#journal.put('server-keys', generateServerKeys())
    this.cleanStart = Boolean(this.#journal.get('clean'))
    this.#journal.delete('clean')
    await this.#journal.flush()
    return this.#journal.get('server-keys')
  }

  #furnish() {
    const journal = this.#journal
    const log = this.#log
    const stats = newStats()
    const faults = new Faults({ connections: () => this.#server?.connections ?? [], stats })
    const registry = new Registry(journal)
    const queues = new Queues(journal)
    const logins = new Logins({ registry, queues, faults, stats })
    const groups = new Groups({ registry, logins, journal })
    const pairing = new Pairing({ registry, logins, journal, stats })
    const pairingCodes = new PairingCodes({ registry, pairing, faults, log })
    const media = new MediaServer({ stateDir: this.#stateDir, stats })
    const relay = new Relay({ registry, logins, groups, faults, stats })
    const queries = new Queries({
      bundles: new Bundles({ registry, logins }),
      directory: new Directory({ registry }),
      groups,
      logins,
      media,
      registry,
      pairingCodes,
      stats,
      onActive: (connection) => this.#onActive(connection),
    })
    const contacts = new Contacts({
      journal,
      log,
      quietLogger: pino({ level: 'silent' }),
      cleanStart: this.cleanStart,
      pair: (qr, phone) => pairing.scan(qr, phone),
    })
    return { stats, faults, registry, queues, logins, groups, media, pairing, pairingCodes, relay, queries, contacts }
  }

  #handlers() {
    const { faults, logins, pairing, pairingCodes, stats } = this.#rooms
    return {
      onConnect: (connection) => faults.onConnect(connection),
      onLogin: (connection, payload) => {
        if (!connection.open) return undefined // It hung up during the handshake; its close was already handled.
        return payload.username ? logins.login(connection, payload) : pairing.begin(connection, payload)
      },
      onStanza: (connection, node) => this.#onStanza(connection, node),
      onMalformed: (_connection, error) => {
        stats.malformed_frames++
        this.#log.warn({ err: error.message }, 'a connection sent a malformed frame and was closed')
      },
      onClose: (connection) => {
        logins.logout(connection)
        pairing.end(connection)
        pairingCodes.end(connection)
      },
    }
  }

  async #onStanza(connection, node) {
    try {
      if (connection.device) this.#route(connection, node)
      else if (node.tag === 'iq') await this.#routeUnpaired(connection, node)
    } catch (error) {
      this.#rooms.stats.internal_errors++
      this.#log.error({ err: error.stack, tag: node.tag }, 'a stanza could not be handled')
    }
  }

  #route(connection, node) {
    const { relay, queries, stats } = this.#rooms
    const routes = {
      iq: () => (node.attrs.type === 'result' || node.attrs.type === 'error' ? null : queries.answer(connection, node)),
      message: () => relay.onMessage(connection, node),
      receipt: () => relay.onReceipt(connection, node),
      ack: () => relay.onAck(connection, node),
      call: () => connection.send({ tag: 'ack', attrs: { id: node.attrs.id, class: 'call', from: node.attrs.to } }),
      presence: () => this.#onPresence(connection, node),
      chatstate: () => relay.onChatState(connection, node),
      ib: () => null,
    }
    if (Object.hasOwn(routes, node.tag)) routes[node.tag]()
    else stats.unknown_stanzas[node.tag] = (stats.unknown_stanzas[node.tag] ?? 0) + 1
  }

  async #routeUnpaired(connection, iq) {
    if (iq.attrs.type === 'result') return this.#rooms.pairing.onResult(connection, iq)
    return this.#rooms.queries.answerUnpaired(connection, iq)
  }

  #onPresence({ account }, { attrs }) {
    if (!attrs.name || attrs.name === account.pushName) return
    account.pushName = attrs.name
    this.#rooms.registry.save(account)
  }

  #onActive(connection) {
    const { logins, registry } = this.#rooms
    logins.activate(connection)
    const { account, device } = connection
    if (!device.newlyLinked) return
    device.newlyLinked = false
    registry.save(account)
    historySyncStanza(registry, account, device)
      .then((stanza) => account.devices[device.id] && logins.deliver(device, stanza))
      .catch((error) => this.#log.error({ err: error.message }, 'the phone could not send its history'))
  }
}

const urlHost = (host) => (host.includes(':') ? `[${host}]` : host)
