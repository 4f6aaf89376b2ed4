/**
 * Owns how incoming messages pass through Baileys: one after the other, and none lost between decryption and event.
 *
 * Invariant: messages are handled in the order of arrival, those kept while offline included; no receipt leaves for
 * a message that was not handed over, and what was decrypted but not handed over, because the connection fell or the
 * process was killed, is handed over when the server delivers it again.
 *
 * Baileys handles messages side by side up to a lock, so one that needs a lookup first is overtaken. And it confirms
 * a message to the server before it emits it: if it ends in between, the message is not delivered again; if it ends
 * before the receipt, the ratchet step is stored and the second delivery cannot be decrypted ("Key used already") and
 * is dropped. (lib/Socket/messages-recv.js)
 */

import { Context } from './context.mjs'
import { FrameHold } from './frame-hold.mjs'
import { Untaken } from './untaken.mjs'

const EVENT = 'CB:message'

/** One company's messages in between; outlives a socket. */
export class Arrival {
  #untaken = new Untaken()
  #messageId = new Context()
  #tail = Promise.resolve()
  #hold = null

  /** Puts messages of this socket in a line. */
  order(ws) {
    const handlers = ws.listeners(EVENT)
    ws.removeAllListeners(EVENT)
    // A line of its own: what an ended socket still does must not hold up its successor.
    this.#tail = Promise.resolve()
    const hold = new FrameHold(ws.socket)
    this.#hold = hold
    ws.on(EVENT, (node) => {
      this.#tail = this.#tail.then(() => this.#handle(ws, hold, handlers, node))
    })
  }

  /** Resolves when every message that has arrived so far was handled. */
  settled() {
    return this.#tail
  }

  /** Resolves when what was sent so far has left. */
  async released() {
    await this.#hold?.released()
  }

  /** The message was handed over (or is known to carry nothing to hand over). */
  taken(messageId) {
    this.#untaken.taken(messageId)
  }

  /** Deletes copies of messages that were handed over; before the auth state is closed. */
  async clear() {
    await this.#untaken.clear()
  }

  /** A signal repository whose decryptions can be repeated until their message was taken. */
  remembering(repository, keys) {
    this.#untaken.attach(keys)
    const { decryptMessage, decryptGroupMessage } = repository
    return Object.assign(repository, {
      decryptMessage: (call) => this.#open(call.ciphertext, call.jid, () => decryptMessage.call(repository, call)),
      decryptGroupMessage: (call) => this.#open(call.msg, call.group, () => decryptGroupMessage.call(repository, call)),
    })
  }

  async #handle(ws, hold, handlers, node) {
    // Left unread here, it stays with the server, which delivers it to the next connection.
    if (!ws.isOpen) return
    const { offline, ...attrs } = node.attrs
    await this.#messageId.run(attrs.id, async () => {
      // Baileys reports its own failures; one that it leaves to the caller must not stop the line.
      for (const handle of handlers) await handle({ ...node, attrs }).catch(() => {})
    })
    // The event goes to the service at the end of this turn, the receipt after it.
    await new Promise(setImmediate)
    hold.release()
  }

  async #open(ciphertext, lock, decrypt) {
    const messageId = this.#messageId.getStore()
    if (!messageId) return decrypt()
    const plaintext = await this.#untaken.open(messageId, ciphertext, lock, decrypt)
    this.#hold.hold()
    return plaintext
  }
}
