/**
 * Owns: a real Baileys client with its auth state in memory, as tests drive it.
 * Invariant: it reconnects by itself only after 515; every other close is left to the test to see.
 */
import makeWASocket, { initAuthCreds } from 'baileys'
import pino from 'pino'
import { eventually } from './harness.mjs'

const quiet = pino({ level: 'silent' })

export class TestClient {
  creds = initAuthCreds()
  values = new Map()
  texts = []
  receipts = []
  upserts = []
  codes = []
  stubs = []
  sent = new Map()
  state = 'idle'
  qr = null
  socket = null

  constructor(simulator, phone, options = {}) {
    this.simulator = simulator
    this.phone = phone
    this.options = options
  }

  /** Pairs by QR and resolves when logged in. */
  static async paired(simulator, phone, options) {
    const client = new TestClient(simulator, phone, options)
    client.connect()
    const qr = await eventually(() => client.qr, 'a QR')
    await simulator.must('POST', '/scan', { qr, phone })
    await client.whenOpen()
    return client
  }

  connect() {
    const socket = makeWASocket({
      auth: { creds: this.creds, keys: this.#keys() },
      waWebSocketUrl: this.simulator.url,
      logger: this.options.logger ?? quiet,
      generateHighQualityLinkPreview: false,
      getMessage: async (key) => this.sent.get(key.id),
      ...this.options.socket,
    })
    this.socket = socket
    this.state = 'connecting'
    socket.ev.on('creds.update', (update) => Object.assign(this.creds, update))
    socket.ev.on('connection.update', (update) => socket === this.socket && this.#onConnection(update))
    socket.ev.on('messages.upsert', ({ messages, type }) => {
      for (const message of messages) this.#onMessage(message, type)
    })
    socket.ev.on('messages.update', (updates) => this.receipts.push(...updates))
    socket.ev.on('message-receipt.update', (updates) => this.receipts.push(...updates))
    return this
  }

  whenOpen(timeoutMs) {
    return eventually(() => this.state === 'open', `${this.phone} open`, timeoutMs)
  }

  /** The disconnect code of the next close. */
  async whenClosed(timeoutMs) {
    await eventually(() => this.state === 'closed', `${this.phone} closed`, timeoutMs)
    return this.codes.at(-1)
  }

  async send(to, text) {
    const message = await this.socket.sendMessage(to.includes('@') ? to : `${to}@s.whatsapp.net`, {
      text,
      linkPreview: null,
    })
    this.sent.set(message.key.id, message.message)
    return message.key.id
  }

  async disconnect() {
    const { socket } = this
    this.socket = null
    this.state = 'closed'
    await socket?.end(undefined)
  }

  /** Texts from others, in the order Baileys gave them. */
  received(prefix = '') {
    return this.texts.filter((text) => text.startsWith(prefix))
  }

  #onConnection({ connection, qr, lastDisconnect }) {
    if (qr) this.qr = qr
    if (connection === 'open') this.state = 'open'
    if (connection !== 'close') return
    const code = lastDisconnect?.error?.output?.statusCode
    this.codes.push(code)
    if (code === 515) this.connect()
    else this.state = 'closed'
  }

  #onMessage(message, type) {
    const text = message.message?.conversation ?? message.message?.extendedTextMessage?.text
    this.upserts.push({ ...message, upsertType: type })
    if (message.messageStubType !== undefined && message.messageStubType !== null && !text) this.stubs.push(message)
    if (text && !message.key.fromMe) this.texts.push(text)
  }

  #keys() {
    const { values } = this
    return {
      get: async (type, ids) =>
        Object.fromEntries(
          ids.filter((id) => values.has(`${type}/${id}`)).map((id) => [id, values.get(`${type}/${id}`)]),
        ),
      set: async (data) => {
        for (const type in data) {
          for (const id in data[type]) {
            if (data[type][id]) values.set(`${type}/${id}`, data[type][id])
            else values.delete(`${type}/${id}`)
          }
        }
      },
    }
  }
}
