/**
 * Owns how incoming messages pass through Baileys: one after the other, and none lost between decryption and event.
 *
 * Invariant: messages are handled in the order of arrival, those kept while offline included; what was decrypted but
 * not handed over when the connection fell is handed over when the server delivers it again.
 *
 * Baileys handles messages side by side up to a lock, so one that needs a lookup first is overtaken. And it confirms
 * a message to the server before it emits it: if that fails, the ratchet step is stored, the message is not emitted,
 * and its second delivery cannot be decrypted ("Key used already") and is dropped. (lib/Socket/messages-recv.js)
 */

import { AsyncLocalStorage } from 'node:async_hooks'
import { createHash } from 'node:crypto'

const EVENT = 'CB:message'
const UNTAKEN_LIMIT = 200

/** One company's messages in between; outlives a socket. */
export class Arrival {
  #untaken = new Map()
  #messageId = new AsyncLocalStorage()
  #tail = Promise.resolve()

  /** Puts messages of this socket in a line. */
  order(ws) {
    const handlers = ws.listeners(EVENT)
    ws.removeAllListeners(EVENT)
    // A line of its own: what an ended socket still does must not hold up its successor.
    this.#tail = Promise.resolve()
    ws.on(EVENT, (node) => {
      this.#tail = this.#tail.then(() => this.#handle(ws, handlers, node))
    })
  }

  /** Resolves when every message that has arrived so far was handled. */
  settled() {
    return this.#tail
  }

  /** The message was handed over (or is known to carry nothing to hand over). */
  taken(messageId) {
    this.#untaken.delete(messageId)
  }

  /** A signal repository whose decryptions can be repeated until their message was taken. */
  remembering(repository) {
    const { decryptMessage, decryptGroupMessage } = repository
    return Object.assign(repository, {
      decryptMessage: (call) => this.#once(call.ciphertext, () => decryptMessage.call(repository, call)),
      decryptGroupMessage: (call) => this.#once(call.msg, () => decryptGroupMessage.call(repository, call)),
    })
  }

  async #handle(ws, handlers, node) {
    // Left unread here, it stays with the server, which delivers it to the next connection.
    if (!ws.isOpen) return
    const { offline, ...attrs } = node.attrs
    await this.#messageId.run(attrs.id, async () => {
      // Baileys reports its own failures; one that it leaves to the caller must not stop the line.
      for (const handle of handlers) await handle({ ...node, attrs }).catch(() => {})
    })
  }

  async #once(ciphertext, decrypt) {
    const id = this.#messageId.getStore()
    const name = createHash('sha256').update(ciphertext).digest('base64')
    const known = this.#untaken.get(id)?.get(name)
    if (known) return known
    const plaintext = await decrypt()
    if (id) this.#remember(id, name, plaintext)
    return plaintext
  }

  #remember(id, name, plaintext) {
    if (!this.#untaken.has(id)) this.#untaken.set(id, new Map())
    this.#untaken.get(id).set(name, plaintext)
    if (this.#untaken.size > UNTAKEN_LIMIT) this.#untaken.delete(this.#untaken.keys().next().value)
  }
}
