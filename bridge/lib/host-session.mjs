/**
 * Owns one socket of one company: from its auth state to its end. Baileys' events become the protocol's.
 *
 * Invariant: `closed` is reported exactly once, as the last event, after every write of the socket was acknowledged
 * (or the time for that was over); after it this session touches neither the company's auth state nor the network.
 */

import { makeWASocket } from 'baileys'
import { Chats } from './chats.mjs'
import { openCompanyAuth } from './company-auth.mjs'
import { settledWithin } from './deadline.mjs'
import { asStandfastError, StandfastError, scrub } from './errors.mjs'
import { Liveness } from './liveness.mjs'
import { attachmentOf } from './message-content.mjs'
import { ackEvent, inactiveReceiptEvents, messageEvent, receiptEvents, statusEvents } from './message-events.mjs'
import { requestPairingCode } from './pairing-code.mjs'
import { listedPreKeys } from './pre-keys.mjs'
import { Retries } from './retries.mjs'
import { Sender } from './sender.mjs'
import { signalStoreOver } from './signal-repository.mjs'
import { boundClosing, cut, detach, drain } from './socket-end.mjs'

const FIRST_QR_TTL_S = 60
const NEXT_QR_TTL_S = 20
const DRAIN_TIMEOUT_MS = 1_000
const END_TIMEOUT_MS = 1_500
const SAVE_TIMEOUT_MS = 3_000
const NOTHING_HEARD = { last_frame_age_ms: null, ping_ms: null, ping_waits_ms: null, unconfirmed_ms: null }

export class HostSession {
  #shared
  #pair
  #auth = null
  #sock = null
  #sender = null
  #chats = null
  #open = false
  #starting = null
  #stopping = false
  #finishing = null
  #qrShown = 0
  #liveness = null
  #retries = new Retries()
  #writeError = null

  /**
   * @param {{ company: string, generation: number, pair: object | null }} what
   * @param {{ channel: object, whatsapp: object, baileysLog: object, log: object, sent: object,
   *   arrival: object, emit: (event: object) => void, receive: (params: object) => Promise<void>,
   *   contentOf: (company: string, messageId: string) => Promise<object | undefined> }} shared
   */
  constructor({ company, generation, pair }, shared) {
    this.company = company
    this.generation = generation
    this.#pair = pair
    this.#shared = shared
    this.log = shared.log.child({ company, generation })
    /** Resolves when `closed` was reported. */
    this.ended = new Promise((resolve) => {
      this.settleEnded = resolve
    })
  }

  /** Makes the socket; what goes wrong is reported as events. */
  start() {
    this.#starting = this.#makeSocket().catch((error) => {
      if (this.#finishing) return
      this.#report(error)
      void this.#finish(0, 'not started')
    })
  }

  /** Ends the socket in order: sends and decryptions under way complete, writes are acknowledged. */
  async stop() {
    this.#stopping = true
    await settledWithin(SAVE_TIMEOUT_MS, this.#starting)
    if (this.#sock && !this.#finishing) {
      this.#open = false
      await settledWithin(DRAIN_TIMEOUT_MS, this.#sender.idle())
      await drain(this.#sock, this.#shared.arrival, DRAIN_TIMEOUT_MS)
      await settledWithin(END_TIMEOUT_MS, this.#sock.end(undefined))
    }
    await this.#finish(0, 'stopped')
  }

  /** Unlinks the device at WhatsApp; resolves when the socket has ended. */
  async logout() {
    this.#requireOpen()
    await this.#sock.logout()
    await this.ended
  }

  async send(params) {
    this.#requireOpen()
    return this.#sender.send(params)
  }

  /** Answers `method` of `Chats`. */
  async chat(method, params) {
    this.#requireOpen()
    return this.#chats[method](params)
  }

  /** Which pre-keys WhatsApp still hands out; see `listedPreKeys`. */
  async preKeys() {
    this.#requireOpen()
    return listedPreKeys(this.#sock, this.#auth.creds, this.#auth.keys)
  }

  /** What is known of it by its traffic; asks for a sign of life where none came for `pingIdleMs`. */
  stats(pingIdleMs) {
    if (this.#open && pingIdleMs) this.#liveness.probe(pingIdleMs)
    const { company, generation } = this
    return { company, generation, ...(this.#liveness?.stats() ?? NOTHING_HEARD), ...this.#retries.stats() }
  }

  /** Another owner has the company: ends at once, without a logout; writes, sends and hands over nothing more. */
  lost(error) {
    this.#stopping = true
    this.#open = false
    this.#auth?.abandon(error)
    if (this.#sock) {
      detach(this.#sock)
      cut(this.#sock)
    }
    if (this.#finishing) return
    this.#report(error)
    void this.#finish(0, 'lost to another owner')
  }

  /** Ends at once and writes nothing more anywhere: there is no gateway to write to. */
  abandon() {
    this.#stopping = true
    this.#finishing = Promise.resolve()
    this.#auth?.abandon()
    if (this.#sock) cut(this.#sock)
    this.settleEnded()
  }

  async #makeSocket() {
    const { channel, whatsapp } = this.#shared
    const auth = await openCompanyAuth(channel, { company: this.company, pair: this.#pair !== null })
    // Given up meanwhile: the company may be open for a newer generation on this very connection.
    if (this.#finishing) return auth.abandon()
    this.#auth = auth
    const config = await whatsapp.socketConfig(this.#pair)
    if (!this.#stopping) this.#connect(config)
  }

  #connect(config) {
    const { creds } = this.#auth
    forgetUnfinishedPairing(creds)
    const { baileysLog, sent, arrival } = this.#shared
    const store = { ...this.#auth.keys, set: (data) => this.#setKeys(data) }
    const remembering = (repository, transactional) => arrival.remembering(repository, transactional)
    const { keys, makeSignalRepository } = signalStoreOver(store, remembering)
    this.#sock = makeWASocket({
      ...config,
      auth: { creds, keys },
      logger: this.#retries.listeningTo(baileysLog),
      syncFullHistory: false,
      markOnlineOnConnect: false,
      emitOwnEvents: false,
      makeSignalRepository,
      getMessage: (key) => this.#sentContent(key.id),
    })
    boundClosing(this.#sock)
    arrival.order(this.#sock.ws)
    this.#liveness = new Liveness(this.#sock)
    this.#retries.hear(this.#sock.ws)
    this.#sender = new Sender(this.#sock, sent, () => arrival.released(), this.#liveness)
    this.#chats = new Chats(this.#sock, () => arrival.released())
    this.#listen(this.#sock)
  }

  #listen({ ev, ws }) {
    this.#on(ev, 'creds.update', () => this.#saveCreds())
    this.#on(ev, 'connection.update', (update) => this.#connectionUpdate(update))
    this.#on(ev, 'messages.upsert', ({ messages }) => this.#messages(messages))
    this.#on(ev, 'messages.update', (updates) => this.#emitAll(statusEvents(updates)))
    this.#on(ev, 'message-receipt.update', (updates) => this.#emitAll(receiptEvents(updates)))
    this.#on(ws, 'CB:ack,class:message', (node) => {
      this.#liveness.confirmed(node.attrs.id)
      if (this.#sender.knows(node.attrs.id)) this.#emitAll([ackEvent(node)])
    })
    this.#on(ws, 'CB:receipt,type:inactive', (node) => this.#emitAll(inactiveReceiptEvents(node)))
  }

  /** A failure of ours must not break the Baileys code that happens to be emitting. */
  #on(emitter, event, handle) {
    emitter.on(event, (value) => {
      try {
        handle(value)
      } catch (error) {
        this.log.error({ event }, `event not handled: ${scrub(error.message)}`)
      }
    })
  }

  #connectionUpdate({ connection, qr, isNewLogin, lastDisconnect }) {
    if (qr) this.#promptPairing(qr)
    if (isNewLogin) this.#emit({ kind: 'paired', ...this.#me() })
    if (connection === 'open') {
      this.#open = !this.#stopping
      this.#emit({ kind: 'open', ...this.#me() })
    }
    if (connection !== 'close') return
    this.#sock.ev.flush()
    const error = lastDisconnect?.error
    void this.#finish(error?.output?.statusCode ?? 0, error ? scrub(error.message) : 'stopped')
  }

  #promptPairing(qr) {
    this.#qrShown++
    if (this.#pair?.by !== 'code') {
      return this.#emit({ kind: 'qr', qr, ttl_s: this.#qrShown === 1 ? FIRST_QR_TTL_S : NEXT_QR_TTL_S })
    }
    if (this.#qrShown > 1) return
    requestPairingCode(this.#sock, this.#pair.phone).then(
      (event) => this.#emit(event),
      (error) => this.#report(error),
    )
  }

  #messages(entries) {
    for (const entry of entries) this.#message(entry)
  }

  #message(entry) {
    const { arrival, receive } = this.#shared
    const event = messageEvent(entry, this.#auth.creds.me)
    if (event?.kind !== 'message') {
      this.#emitAll([event])
      return arrival.taken(entry.key.id)
    }
    const { company, generation } = this
    const attachment = event.message.media && attachmentOf(entry.message)
    const give = () => receive({ company, generation, message: event.message, attachment })
    arrival.handOver(entry.key.id, give, () => !this.#finishing)
  }

  /** What this company sent, for a receiver that asks for it again. */
  async #sentContent(messageId) {
    const { sent, contentOf } = this.#shared
    return sent.get(messageId) ?? contentOf(this.company, messageId)
  }

  #me() {
    const { me } = this.#auth.creds
    return { jid: me?.id ?? null, lid: me?.lid ?? null }
  }

  #saveCreds() {
    this.#auth.saveCreds().catch((error) => this.#writeFailed(error))
  }

  async #setKeys(data) {
    try {
      await this.#auth.keys.set(data)
      this.#writeError = null
    } catch (error) {
      this.#writeFailed(error)
      throw error
    }
  }

  /** A socket whose state can no longer be kept must not go on: what it sends would repeat counters. */
  #writeFailed(error) {
    if (this.#finishing) return
    if (this.#writeError?.code !== error.code) this.#report(error)
    this.#writeError = error
    if (!error.retryable) this.#sock?.end(undefined).catch(() => {})
  }

  #report(thrown) {
    const error = asStandfastError(thrown)
    this.log.error({ code: error.code }, scrub(error.message))
    this.#emit({ kind: 'error', message: error.message, error: error.asWire() })
  }

  #requireOpen() {
    if (this.#open) return
    throw new StandfastError('session_not_open', `the session of company ${this.company} is not open`)
  }

  #finish(status, reason) {
    this.#finishing ??= this.#finishOnce(status, reason)
    return this.#finishing
  }

  async #finishOnce(status, reason) {
    this.#open = false
    this.#chats?.close()
    if (this.#auth && !(await settledWithin(SAVE_TIMEOUT_MS, this.#auth.close()))) {
      this.log.error('writes were not acknowledged in time before the socket ended')
      this.#auth.abandon()
    }
    if (this.#sock) detach(this.#sock)
    this.#shared.emit({ company: this.company, generation: this.generation, kind: 'closed', status, reason })
    this.settleEnded()
  }

  #emitAll(events) {
    for (const event of events) if (event) this.#emit(event)
  }

  #emit(event) {
    this.#shared.emit({ company: this.company, generation: this.generation, ...event })
  }
}

/**
 * Asking for a pairing code writes `me` before anybody has linked anything; with it Baileys would log in with an
 * identity that the server does not know, be refused with 401, and pass for logged out.
 */
function forgetUnfinishedPairing(creds) {
  if (creds.account || !creds.me) return
  creds.me = undefined
  creds.pairingCode = undefined
}
