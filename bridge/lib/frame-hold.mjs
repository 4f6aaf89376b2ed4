/**
 * Owns holding back what a socket sends.
 *
 * Invariant: frames leave in the order in which they were made; none overtakes a barrier that stands before it.
 */

/** Handling a message may need an answer of the server, which would never be asked for while frames are held. */
const LIMIT_MS = 500

export class FrameHold {
  #send
  /** Frames, barriers and those who wait for frames to leave, in order. */
  #line = []

  /** @param {{ send: (data: Uint8Array, done: (error?: Error) => void) => void, close: () => void }} socket a WebSocket of `ws` */
  constructor(socket) {
    this.#send = socket.send.bind(socket)
    socket.send = (data, done) => {
      if (this.#line.length === 0) return this.#send(data, done)
      this.#line.push({ leave: () => this.#send(data, () => {}) })
      // Baileys waits for each frame to be written; that must not hold up what the frames wait for.
      done?.()
    }
    const close = socket.close.bind(socket)
    // Baileys asks to be unlinked and closes in the same breath: what is held by then was said before the close.
    socket.close = (...args) => {
      this.#openAll()
      return close(...args)
    }
  }

  /** A barrier that holds whatever is sent from now on until it is released, or for 500 ms. */
  hold() {
    const barrier = new Barrier(() => this.#pump())
    this.#line.push(barrier)
    return barrier
  }

  /** Resolves when what was sent so far has left. */
  released() {
    if (this.#line.length === 0) return Promise.resolve()
    return new Promise((resolve) => this.#line.push({ leave: resolve }))
  }

  /** Barriers that stand now last until they are released: a close does not open them. */
  keepBack() {
    for (const one of this.#line) if (one.stands) one.keep()
  }

  #pump() {
    while (this.#line.length > 0 && !this.#line[0].stands) this.#line.shift().leave()
  }

  /** What stands behind a message that nobody has taken yet stays: the server delivers that one again. */
  #openAll() {
    for (const one of this.#line) if (one.stands && !one.lasts) one.release()
  }
}

class Barrier {
  #opened
  stands = true
  /** Whether it stands until it is released. */
  lasts = false

  constructor(opened) {
    this.#opened = opened
    this.timer = setTimeout(() => this.release(), LIMIT_MS)
  }

  /** From now on, without a limit. */
  keep() {
    clearTimeout(this.timer)
    this.lasts = true
  }

  release() {
    clearTimeout(this.timer)
    if (!this.stands) return
    this.stands = false
    this.#opened()
  }

  leave() {}
}
