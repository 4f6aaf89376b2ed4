/**
 * Owns: the Noise XX handshake and the encrypted frames of one client connection over a WebSocket.
 * Invariant: stanzas reach onStanza one at a time and in the order they were sent; a frame that does not decrypt
 * ends this connection and no other.
 */

import { aesDecryptGCM, aesEncryptGCM, Curve, decodeBinaryNode, encodeBinaryNode, hkdf, proto, sha256 } from 'baileys'
import { WebSocketServer } from 'ws'
import { NOISE_MODE, NOISE_WA_HEADER } from './baileys-parts.mjs'

const HANDSHAKE_TIMEOUT_MS = 20_000
const MAX_FRAME_BYTES = 8 * 1024 * 1024
const CLOSE_GRACE_MS = 1_000
const NO_DATA = Buffer.alloc(0)
const CertificateDetails = proto.CertChain.NoiseCertificate.Details

function nonce(counter) {
  const bytes = Buffer.alloc(12)
  bytes.writeUInt32BE(counter, 8)
  return bytes
}

/** Fresh root, intermediate and static key pairs for a server that has none yet. */
export const generateServerKeys = () => ({
  root: Curve.generateKeyPair(),
  intermediate: Curve.generateKeyPair(),
  static: Curve.generateKeyPair(),
})

/** The chain leaf ← intermediate ← root that a client checks; the root's serial is 0. */
export function certificateChain(keys) {
  const intermediate = CertificateDetails.encode({ serial: 1, issuerSerial: 0, key: keys.intermediate.public }).finish()
  const leaf = CertificateDetails.encode({ serial: 2, issuerSerial: 1, key: keys.static.public }).finish()
  return proto.CertChain.encode({
    intermediate: { details: intermediate, signature: Curve.sign(keys.root.private, intermediate) },
    leaf: { details: leaf, signature: Curve.sign(keys.intermediate.private, leaf) },
  }).finish()
}

/** The responder's half of Noise_XX_25519_AESGCM_SHA256, up to the two transport keys. */
class Handshake {
  greeted = false
  #hash = Buffer.from(NOISE_MODE)
  #salt = this.#hash
  #key = this.#hash
  #counter = 0
  #ephemeral = Curve.generateKeyPair()
  #serverKeys

  constructor(serverKeys) {
    this.#serverKeys = serverKeys
    this.#authenticate(NOISE_WA_HEADER)
  }

  /** Answers ClientHello with the bytes of ServerHello. */
  hello(frame) {
    const clientEphemeral = proto.HandshakeMessage.decode(frame).clientHello.ephemeral
    this.#authenticate(clientEphemeral)
    this.#authenticate(this.#ephemeral.public)
    this.#mix(Curve.sharedKey(this.#ephemeral.private, clientEphemeral))
    const encryptedStatic = this.#encrypt(this.#serverKeys.static.public)
    this.#mix(Curve.sharedKey(this.#serverKeys.static.private, clientEphemeral))
    const payload = this.#encrypt(this.#serverKeys.chain)
    const serverHello = { ephemeral: this.#ephemeral.public, static: encryptedStatic, payload }
    this.greeted = true
    return proto.HandshakeMessage.encode({ serverHello }).finish()
  }

  /** Reads ClientFinish: { payload, clientStatic, readKey, writeKey }. */
  finish(frame) {
    const { clientFinish } = proto.HandshakeMessage.decode(frame)
    const clientStatic = this.#decrypt(clientFinish.static)
    this.#mix(Curve.sharedKey(this.#ephemeral.private, clientStatic))
    const payload = proto.ClientPayload.decode(this.#decrypt(clientFinish.payload))
    const keys = hkdf(NO_DATA, 64, { salt: this.#salt, info: '' })
    return { payload, clientStatic, readKey: keys.subarray(0, 32), writeKey: keys.subarray(32) }
  }

  #authenticate(data) {
    this.#hash = sha256(Buffer.concat([this.#hash, data]))
  }

  #mix(secret) {
    const keys = hkdf(Buffer.from(secret), 64, { salt: this.#salt, info: '' })
    this.#salt = keys.subarray(0, 32)
    this.#key = keys.subarray(32)
    this.#counter = 0
  }

  #encrypt(plain) {
    const sealed = aesEncryptGCM(plain, this.#key, nonce(this.#counter++), this.#hash)
    this.#authenticate(sealed)
    return sealed
  }

  #decrypt(sealed) {
    const plain = aesDecryptGCM(sealed, this.#key, nonce(this.#counter++), this.#hash)
    this.#authenticate(sealed)
    return plain
  }
}

/** One client; `account`, `device` and `active` are filled by the login room, `delayMs` and `stall` by faults. */
export class ClientConnection {
  account = null
  device = null
  active = false
  backlog = null
  delayMs = 0
  clientStatic = null
  watching = new Set()

  #ws
  #handlers
  #handshake
  #transport = null
  #inbound = Buffer.alloc(0)
  #introRead = false
  #readCounter = 0
  #writeCounter = 0
  #pumping = false
  #stalled = false
  /** Which stanzas pass, both ways: every one, queries only, or none. */
  #passes = (_node) => true
  #ended = false
  #held = []
  #lastDueMs = 0
  #timer

  constructor(ws, serverKeys, handlers) {
    this.#ws = ws
    this.#handlers = handlers
    this.#handshake = new Handshake(serverKeys)
    this.#timer = setTimeout(() => this.reset(), HANDSHAKE_TIMEOUT_MS)
    ws.on('message', (data) => this.#onData(data))
    ws.on('error', () => ws.terminate())
    ws.on('close', () => this.#onClose())
  }

  get open() {
    return this.#ws.readyState === this.#ws.OPEN
  }

  /** Sends a stanza after the connection's delay, keeping order; held back while stalled. */
  send(node) {
    if (!this.open || !this.#transport || !this.#passes(node)) return
    if (this.#stalled) return void this.#held.push(node)
    const dueMs = Math.max(Date.now() + this.delayMs, this.#lastDueMs)
    if (dueMs <= Date.now()) return this.#write(node)
    this.#lastDueMs = dueMs
    setTimeout(() => (this.#stalled ? this.#held.push(node) : this.#write(node)), dueMs - Date.now())
  }

  /** Sends a last stanza, if any, and closes the WebSocket. */
  close(node) {
    if (node) this.send(node)
    this.#ended = true
    const hang = Math.max(this.delayMs, 0)
    setTimeout(() => this.#ws.close(), hang)
    setTimeout(() => this.#ws.terminate(), hang + CLOSE_GRACE_MS).unref()
  }

  /** Drops the TCP connection without a word. */
  reset() {
    this.#ended = true
    const socket = this.#ws._socket
    if (socket?.resetAndDestroy) socket.resetAndDestroy()
    else this.#ws.terminate()
  }

  /** For good: what is not passed is not kept. TCP and WebSocket stay as they are. */
  muffle(answersPings) {
    this.#passes = (node) => answersPings && node.tag === 'iq'
  }

  stall() {
    this.#stalled = true
    this.#ws.pause()
  }

  resume() {
    if (!this.#stalled) return
    this.#stalled = false
    this.#ws.resume()
    for (const node of this.#held.splice(0)) this.send(node)
  }

  #write(node) {
    if (!this.open) return
    const { writeKey } = this.#transport
    this.#writeFrame(aesEncryptGCM(encodeBinaryNode(node), writeKey, nonce(this.#writeCounter++), NO_DATA))
  }

  #writeFrame(data) {
    const frame = Buffer.allocUnsafe(3 + data.length)
    frame.writeUIntBE(data.length, 0, 3)
    frame.set(data, 3)
    this.#ws.send(frame)
  }

  #onData(data) {
    this.#inbound = this.#inbound.length ? Buffer.concat([this.#inbound, data]) : data
    if (!this.#pumping) void this.#pump()
  }

  async #pump() {
    this.#pumping = true
    try {
      this.#readIntro()
      for (let frame = this.#nextFrame(); frame; frame = this.#nextFrame()) await this.#onFrame(frame)
    } catch (error) {
      this.#ended = true
      this.#handlers.onMalformed(this, error)
      this.#ws.terminate()
    } finally {
      this.#pumping = false
    }
  }

  #readIntro() {
    if (this.#introRead || this.#inbound.length < 7) return
    const routed = this.#inbound[0] === 0x45 && this.#inbound[1] === 0x44
    const at = routed ? 7 + ((this.#inbound[4] << 16) | this.#inbound.readUInt16BE(5)) : 0
    if (this.#inbound.length < at + NOISE_WA_HEADER.length) return
    if (!this.#inbound.subarray(at, at + 2).equals(NOISE_WA_HEADER.subarray(0, 2)))
      throw new Error('not a WhatsApp client')
    this.#inbound = this.#inbound.subarray(at + NOISE_WA_HEADER.length)
    this.#introRead = true
  }

  /** What a client sent just before it closed still counts; what it sends after the server closed does not. */
  #nextFrame() {
    if (!this.#introRead || this.#inbound.length < 3 || this.#ended) return null
    const length = this.#inbound.readUIntBE(0, 3)
    if (this.#inbound.length < 3 + length) return null
    const frame = this.#inbound.subarray(3, 3 + length)
    this.#inbound = this.#inbound.subarray(3 + length)
    return frame
  }

  async #onFrame(frame) {
    if (this.#transport) {
      const plain = aesDecryptGCM(frame, this.#transport.readKey, nonce(this.#readCounter++), NO_DATA)
      const node = await decodeBinaryNode(plain)
      return this.#passes(node) ? this.#handlers.onStanza(this, node) : undefined
    }
    if (this.#handshake.greeted) return this.#login(this.#handshake.finish(frame))
    this.#writeFrame(this.#handshake.hello(frame))
  }

  #login({ payload, clientStatic, readKey, writeKey }) {
    clearTimeout(this.#timer)
    this.#transport = { readKey, writeKey }
    this.#handshake = null
    this.clientStatic = Buffer.from(clientStatic)
    return this.#handlers.onLogin(this, payload)
  }

  #onClose() {
    clearTimeout(this.#timer)
    this.#handlers.onClose(this)
  }
}

/** Listens for clients: { port, connections, close() }. Rejects with the listen error (EADDRINUSE …). */
export async function listen({ host, port, serverKeys, handlers }) {
  const keys = { static: serverKeys.static, chain: certificateChain(serverKeys) }
  const server = new WebSocketServer({ host, port, perMessageDeflate: false, maxPayload: MAX_FRAME_BYTES })
  await new Promise((resolve, reject) => server.once('listening', resolve).once('error', reject))
  const connections = new Set()
  server.on('connection', (ws) => {
    const onClose = (connection) => {
      connections.delete(connection)
      handlers.onClose(connection)
    }
    const connection = new ClientConnection(ws, keys, { ...handlers, onClose })
    connections.add(connection)
    handlers.onConnect(connection)
  })
  const close = () => {
    for (const connection of connections) connection.reset()
    return new Promise((resolve) => server.close(resolve))
  }
  return { port: server.address().port, connections, close }
}
