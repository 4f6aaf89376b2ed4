/**
 * Owns the count of retry receipts of a socket: what it could not decrypt and asked for again, and what receivers asked for.
 *
 * Invariant: each receipt counts once, when it has left or come.
 */

/** Baileys gives no event for what it asks for again; this line of its log is the one sign (lib/Socket/messages-recv.js). */
const SENT = 'sent retry receipt'

export class Retries {
  #sent = 0
  #received = 0

  /** Baileys' `logger`, listened to. */
  listeningTo(logger) {
    const info = (first, text) => {
      if (text === SENT) this.#sent++
      logger.info(first, text)
    }
    const heard = { ...logger, info, child: () => heard }
    return heard
  }

  /** Counts what comes over the socket's `ws`. */
  hear(ws) {
    ws.on('CB:receipt,type:retry', () => {
      this.#received++
    })
  }

  stats() {
    return { retries_sent: this.#sent, retries_received: this.#received }
  }
}
