/**
 * Owns: the contacts, which are real Baileys clients inside this process, and what they do with messages.
 * Invariant: a contact answers only what it decrypted, and never an answer of another echo.
 */
import { setTimeout as delay } from 'node:timers/promises'
import makeWASocket from 'baileys'
import { AdminError } from './admin-errors.mjs'
import { ContactAuth } from './contact-auth.mjs'
import { ContactMessages } from './contact-messages.mjs'
import { pnJid } from './stanzas.mjs'

const OPEN_TIMEOUT_MS = 20_000
const STOP_TIMEOUT_MS = 500
const SEND_TIMEOUT_MS = 15_000
const FIRST_RETRY_MS = 250
const MAX_RETRY_MS = 5_000
const ECHO_PREFIX = 'echo: '
const SENT_KEPT = 1_000
const STOP_CODES = { 401: 'logged_out', 440: 'replaced' }

export class Contact {
  #settings
  #rooms
  #auth
  #socket = null
  #retryMs = FIRST_RETRY_MS
  #retryTimer = null
  #talkTimer = null
  #sent = new Map()
  #openWaiters = []
  state = 'connecting'

  constructor(settings, rooms) {
    this.#settings = settings
    this.#rooms = rooms
    this.#auth = new ContactAuth(rooms.journal, settings.phone, rooms.cleanStart)
    this.messages = new ContactMessages(rooms.journal, settings.phone)
  }

  get settings() {
    return this.#settings
  }

  start() {
    if (this.state === 'stopped') return
    this.state = 'connecting'
    const socket = makeWASocket({
      auth: this.#auth.state(),
      waWebSocketUrl: this.#rooms.url,
      logger: this.#rooms.quietLogger,
      browser: ['Simulator', 'Chrome', '1'],
      generateHighQualityLinkPreview: false,
      getMessage: async (key) => this.#sent.get(key.id),
    })
    this.#socket = socket
    socket.ev.on('creds.update', (update) => this.#auth.saveCreds(update))
    socket.ev.on('connection.update', (update) => socket === this.#socket && this.#onConnection(update))
    socket.ev.on('messages.upsert', ({ messages }) => {
      for (const message of messages) this.#onMessage(message)
    })
  }

  /** Resolves when the contact is logged in; rejects after 20 s. */
  whenOpen() {
    if (this.state === 'open') return Promise.resolve()
    return new Promise((resolve, reject) => {
      const late = new AdminError(
        504,
        'contact_not_open',
        `the contact is ${this.state}`,
        'look at GET /contacts and at faults that are in force',
      )
      const timer = setTimeout(() => reject(late), OPEN_TIMEOUT_MS)
      this.#openWaiters.push(() => {
        clearTimeout(timer)
        resolve()
      })
    })
  }

  /** Sends a text to a phone number or a jid; resolves with the message id. */
  async send(to, text) {
    if (this.state !== 'open')
      throw new AdminError(
        409,
        'contact_not_open',
        `the contact is ${this.state}`,
        'wait until GET /contacts shows it open',
      )
    const jid = to.includes('@') ? to : pnJid(to)
    // No link preview: it would fetch the link from the network.
    const sent = await withDeadline(this.#socket.sendMessage(jid, { text, linkPreview: null }), SEND_TIMEOUT_MS)
    this.#sent.set(sent.key.id, sent.message)
    if (this.#sent.size > SENT_KEPT) this.#sent.delete(this.#sent.keys().next().value)
    return sent.key.id
  }

  loseSessions() {
    this.#auth.loseSessions()
  }

  async stop() {
    this.state = 'stopped'
    clearTimeout(this.#retryTimer)
    clearInterval(this.#talkTimer)
    // A stalled connection never answers the close; it ends with the server.
    await Promise.race([this.#socket?.end(undefined), delay(STOP_TIMEOUT_MS, undefined, { ref: false })])
    this.#socket = null
  }

  forget() {
    this.#auth.remove()
    this.messages.remove()
    this.#rooms.journal.delete(`talked/${this.#settings.phone}`)
  }

  #onConnection({ connection, qr, lastDisconnect }) {
    if (qr)
      this.#rooms
        .pair(qr, this.#settings.phone)
        .catch((error) => this.#rooms.log.warn({ err: error.message }, 'a contact could not be paired'))
    if (connection === 'open') this.#onOpen()
    if (connection === 'close' && this.state !== 'stopped') this.#onClose(lastDisconnect?.error?.output?.statusCode)
  }

  #onOpen() {
    this.state = 'open'
    this.#retryMs = FIRST_RETRY_MS
    for (const wake of this.#openWaiters.splice(0)) wake()
    const { behaviour, interval_ms: intervalMs } = this.#settings
    if (behaviour === 'talk') this.#talkTimer ??= setInterval(() => this.#talk(), intervalMs)
  }

  #onClose(code) {
    this.#socket = null
    if (STOP_CODES[code]) {
      this.state = STOP_CODES[code]
      return clearInterval(this.#talkTimer)
    }
    this.state = 'connecting'
    const waitMs = code === 515 ? 0 : this.#retryMs
    if (waitMs) this.#retryMs = Math.min(this.#retryMs * 2, MAX_RETRY_MS)
    this.#retryTimer = setTimeout(() => this.start(), waitMs)
  }

  #onMessage(message) {
    const text = this.messages.record(message)
    if (text === null || this.#settings.behaviour !== 'echo' || text.startsWith(ECHO_PREFIX)) return
    this.send(message.key.remoteJid, ECHO_PREFIX + text).catch((error) => this.#reportFailure(error))
  }

  #talk() {
    if (this.state !== 'open') return
    const { phone, peer } = this.#settings
    const number = (this.#rooms.journal.get(`talked/${phone}`) ?? 0) + 1
    this.#rooms.journal.put(`talked/${phone}`, number)
    this.send(peer, `message ${number}`).catch((error) => this.#reportFailure(error))
  }

  #reportFailure(error) {
    this.#rooms.log.warn({ err: error.message }, 'a contact could not send')
  }
}

export class Contacts {
  #rooms
  #contacts = new Map()

  /** `rooms`: journal, log, quietLogger, pair(qr, phone), cleanStart; `url` is set before restore(). */
  constructor(rooms) {
    this.#rooms = rooms
  }

  /** Brings back the contacts of the last run; they log in by themselves. */
  restore(url) {
    this.#rooms.url = url
    for (const [, settings] of this.#rooms.journal.entries('contact/')) this.#start(settings)
  }

  list() {
    return [...this.#contacts.values()].map((contact) => ({
      ...contact.settings,
      state: contact.state,
      messages: contact.messages.count,
      undecryptable: contact.messages.undecryptable,
    }))
  }

  /** The contact of a phone; throws where there is none. */
  get(phone) {
    const contact = this.#contacts.get(phone)
    if (!contact)
      throw new AdminError(
        404,
        'unknown_contact',
        'there is no contact with this phone',
        'create it with POST /contacts',
      )
    return contact
  }

  async add(settings) {
    if (this.#contacts.has(settings.phone)) {
      throw new AdminError(
        409,
        'contact_exists',
        'there is a contact with this phone',
        'delete it first, or choose another phone',
      )
    }
    this.#rooms.journal.put(`contact/${settings.phone}`, settings)
    const contact = this.#start(settings)
    await contact.whenOpen()
    return contact
  }

  /** Stops the contact and forgets its keys; its device is unlinked from its phone by the caller. */
  async remove(phone) {
    const contact = this.get(phone)
    this.#contacts.delete(phone)
    await contact.stop()
    contact.forget()
    this.#rooms.journal.delete(`contact/${phone}`)
  }

  async close() {
    await Promise.all([...this.#contacts.values()].map((contact) => contact.stop()))
  }

  #start(settings) {
    const contact = new Contact(settings, this.#rooms)
    this.#contacts.set(settings.phone, contact)
    contact.start()
    return contact
  }
}

function withDeadline(promise, timeoutMs) {
  const late = new AdminError(
    504,
    'send_timeout',
    'the contact could not send in time',
    'look at faults that are in force and send again',
  )
  let timer
  const deadline = new Promise((_resolve, reject) => (timer = setTimeout(() => reject(late), timeoutMs)))
  return Promise.race([promise, deadline]).finally(() => clearTimeout(timer))
}
