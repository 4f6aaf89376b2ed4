/**
 * Owns ending a Baileys socket without losing what it has already taken from the server.
 *
 * Invariant: ending takes at most the given time, also where the server no longer answers.
 */

import { settledWithin } from './deadline.mjs'

const CLOSE_TIMEOUT_MS = 1_000

/** Baileys waits for the server's half of closing before it tells anybody; a hung server would take 30 s of it. */
export function boundClosing(sock) {
  const { ws } = sock
  const close = ws.close.bind(ws)
  ws.close = async () => {
    const timer = setTimeout(() => ws.socket?.terminate(), CLOSE_TIMEOUT_MS)
    try {
      await close()
    } finally {
      clearTimeout(timer)
    }
  }
}

/**
 * Stops reading and lets messages that are being decrypted reach their events. Their ratchet step is committed, so
 * one that is dropped here would have to be remembered until the server delivers it again; it must not be confirmed.
 * Of a backlog only the message that was begun is waited for.
 */
export async function drain(sock, arrival, timeoutMs) {
  sock.ws.socket?.pause()
  arrival.ending()
  await settledWithin(timeoutMs, quiet(sock, arrival))
  arrival.keepBack()
  await settledWithin(timeoutMs, arrival.clear())
  sock.ws.socket?.resume()
}

async function quiet(sock, arrival) {
  await arrival.settled()
  for (const lock of [sock.messageMutex, sock.receiptMutex, sock.notificationMutex]) await lock.mutex(async () => {})
}

/** Cuts the connection at once; nothing is written to the server. */
export function cut(sock) {
  sock.ws.socket?.terminate()
  sock.end(undefined).catch(() => {})
}

/** After the end: nobody of ours listens any more, and a late error of the connection harms nobody. */
export function detach(sock) {
  sock.ev.removeAllListeners()
  sock.ws.removeAllListeners()
  sock.ws.on('error', () => {})
}
