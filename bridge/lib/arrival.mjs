/**
 * Owns how incoming messages pass through Baileys: one after the other, and none lost between decryption and event.
 *
 * Invariant: messages are handled in the order of arrival, those kept while offline included; no receipt leaves for
 * a message before the service has answered that it is kept, and what was decrypted but not handed over, because the
 * connection fell or a process was killed, is handed over when the server delivers it again.
 *
 * Baileys handles messages side by side up to a lock, so one that needs a lookup first is overtaken. And it confirms
 * a message to the server before it emits it: if it ends in between, the message is not delivered again; if it ends
 * before the receipt, the ratchet step is stored and the second delivery cannot be decrypted ("Key used already") and
 * is dropped. (lib/Socket/messages-recv.js)
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { Context } from './context.mjs'
import { FrameHold } from './frame-hold.mjs'
import { Untaken } from './untaken.mjs'

const EVENT = 'CB:message'
const RETRY_DELAY_MS = 500

/** One company's messages in between; outlives a socket. */
export class Arrival {
  #untaken = new Untaken()
  #arrived = new Context()
  #handing = new Map()
  #tail = Promise.resolve()
  #hold = null
  #isEnding = false

  /** Puts messages of this socket in a line. */
  order(ws) {
    const handlers = ws.listeners(EVENT)
    ws.removeAllListeners(EVENT)
    // A line of its own: what an ended socket still does must not hold up its successor.
    this.#tail = Promise.resolve()
    this.#isEnding = false
    const hold = new FrameHold(ws.socket)
    this.#hold = hold
    ws.on(EVENT, (node) => {
      this.#tail = this.#tail.then(() => this.#handle(ws, hold, handlers, node))
    })
  }

  /** The socket is being ended: what has arrived and was not begun stays with the server. */
  ending() {
    this.#isEnding = true
  }

  /** From now on no receipt leaves for a message that was begun and is not kept, not even when the socket closes. */
  keepBack() {
    this.#hold?.keepBack()
  }

  /** Resolves when every message that has arrived so far was handled and handed over. */
  async settled() {
    await this.#tail
    await Promise.all(this.#handing.values())
  }

  /**
   * Hands a message over by `give`, which resolves once it is kept; repeated while that may help and `isWanted()`. Until
   * then no receipt of it leaves.
   */
  handOver(messageId, give, isWanted) {
    const handing = this.#give(give, isWanted).then((given) => {
      if (given) this.taken(messageId)
      if (this.#handing.get(messageId) === handing) this.#handing.delete(messageId)
      return given
    })
    this.#handing.set(messageId, handing)
  }

  /** Resolves when what was sent so far has left. */
  async released() {
    await this.#hold?.released()
  }

  /** The message is kept by the service (or is known to carry nothing to hand over). */
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
    if (!ws.isOpen || this.#isEnding) return
    const { offline, ...attrs } = node.attrs
    const arrived = { id: attrs.id, hold, barrier: null }
    await this.#arrived.run(arrived, async () => {
      // Baileys reports its own failures; one that it leaves to the caller must not stop the line.
      for (const handle of handlers) await handle({ ...node, attrs }).catch(() => {})
    })
    await new Promise(setImmediate)
    this.#release(arrived)
  }

  /** The receipt leaves once the service has the message; the next message is handled meanwhile. */
  #release({ id, barrier }) {
    const handing = this.#handing.get(id)
    if (!handing) return barrier?.release()
    barrier?.keep()
    void handing.then((given) => given && barrier?.release())
  }

  async #give(give, isWanted) {
    for (;;) {
      try {
        await give()
        return true
      } catch (error) {
        if (!error.retryable || !isWanted()) return false
      }
      await sleep(RETRY_DELAY_MS)
    }
  }

  async #open(ciphertext, lock, decrypt) {
    const arrived = this.#arrived.getStore()
    if (!arrived) return decrypt()
    const plaintext = await this.#untaken.open(arrived.id, ciphertext, lock, decrypt)
    arrived.barrier ??= arrived.hold.hold()
    return plaintext
  }
}
