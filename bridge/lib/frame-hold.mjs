/**
 * Owns holding back what a socket sends.
 *
 * Invariant: frames leave in the order in which they were made, and none is held for longer than the limit.
 */

/** Handling a message may need an answer of the server, which would never be asked for while frames are held. */
const LIMIT_MS = 500

export class FrameHold {
  #send
  #frames = []
  #timer = null
  #released = Promise.resolve()
  #settleReleased = () => {}

  /** @param {{ send: (data: Uint8Array, done: (error?: Error) => void) => void, close: () => void }} socket a WebSocket of `ws` */
  constructor(socket) {
    this.#send = socket.send.bind(socket)
    socket.send = (data, done) => {
      if (!this.#timer) return this.#send(data, done)
      this.#frames.push(data)
      // Baileys waits for each frame to be written; that must not hold up what the frames wait for.
      done?.()
    }
    const close = socket.close.bind(socket)
    // Baileys asks to be unlinked and closes in the same breath: what is held by then was said before the close.
    socket.close = (...args) => {
      this.release()
      return close(...args)
    }
  }

  hold() {
    if (this.#timer) return
    this.#timer = setTimeout(() => this.release(), LIMIT_MS)
    this.#released = new Promise((resolve) => {
      this.#settleReleased = resolve
    })
  }

  release() {
    clearTimeout(this.#timer)
    this.#timer = null
    for (const frame of this.#frames.splice(0)) this.#send(frame, () => {})
    this.#settleReleased()
  }

  /** Resolves when nothing is held back. */
  released() {
    return this.#released
  }
}
