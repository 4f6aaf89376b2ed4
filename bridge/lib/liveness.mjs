/**
 * Owns what is known of a socket by its traffic: its last frame, the round trip of a ping of ours, and the oldest message
 * that the server has not confirmed.
 *
 * Invariant: only what came from the server counts as a sign of life.
 *
 * Baileys pings every 30 s and ends a socket that has heard nothing for 35 s at its next ping, so after up to 65 s
 * (lib/Socket/socket.js, startKeepAliveRequest). A socket whose pings are answered while nothing else passes lives on there.
 */

import { S_WHATSAPP_NET } from 'baileys'

const CONFIRMATIONS_KEPT = 10_000

export class Liveness {
  #sock
  #lastFrameAt = null
  #pingedAt = null
  #pingMs = null
  #unconfirmed = new Map()

  constructor(sock) {
    this.#sock = sock
    sock.ws.on('frame', () => {
      const now = performance.now()
      this.#lastFrameAt = now
      if (this.#pingedAt === null) return
      // Whatever comes after a ping shows that the way back is open; the answer itself is the next thing to come.
      this.#pingMs = now - this.#pingedAt
      this.#pingedAt = null
    })
  }

  /** Asks for a sign of life where none came for `idleMs`; what becomes of it shows in `stats()`. */
  probe(idleMs) {
    if (this.#lastFrameAt === null || this.#pingedAt !== null || !this.#sock.ws.isOpen) return
    if (performance.now() - this.#lastFrameAt < idleMs) return
    this.#pingedAt = performance.now()
    const id = this.#sock.generateMessageTag()
    const ping = { tag: 'iq', attrs: { id, to: S_WHATSAPP_NET, type: 'get', xmlns: 'w:p' }, content: [PING] }
    this.#sock.sendNode(ping).catch(() => {})
  }

  /** A message is being sent; again under the same id, it is as old as the first time. */
  sending(messageId) {
    if (this.#unconfirmed.has(messageId) || this.#unconfirmed.size >= CONFIRMATIONS_KEPT) return
    this.#unconfirmed.set(messageId, performance.now())
  }

  /** The server has the message, or it did not leave. */
  confirmed(messageId) {
    this.#unconfirmed.delete(messageId)
  }

  stats() {
    const now = performance.now()
    const [oldest] = this.#unconfirmed.values()
    return {
      last_frame_age_ms: age(now, this.#lastFrameAt),
      ping_ms: this.#pingMs === null ? null : Math.round(this.#pingMs * 10) / 10,
      ping_waits_ms: age(now, this.#pingedAt),
      unconfirmed_ms: age(now, oldest ?? null),
    }
  }
}

const PING = { tag: 'ping', attrs: {} }

function age(now, at) {
  return at === null ? null : Math.round(now - at)
}
