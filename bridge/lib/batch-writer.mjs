/**
 * Owns key writes on their way out: those that follow from one event (and from no later one) leave as one frame.
 *
 * Invariant: writes leave in the order in which they were begun, each wholly in one frame, and each is settled by
 * what the gateway answers to it. A message to several devices steps several ratchets at once; one frame makes that
 * one round trip and one commit.
 */

const LIMIT_CHARS = 4 * 1024 * 1024

export class BatchWriter {
  #send
  #gathering = null

  /** @param {(dataJson: string) => Promise<void>} send takes `{type: {id: value or null}}` as JSON */
  constructor(send) {
    this.#send = send
  }

  /** Resolves when durable. @param {[type: string, id: string, text: string | null][]} entries */
  write(entries) {
    const chars = entries.reduce((sum, [, , text]) => sum + (text?.length ?? 4), 0)
    if (this.#gathering && this.#gathering.chars + chars > LIMIT_CHARS) this.#gathering = null
    this.#gathering ??= this.#gather()
    const { parts } = this.#gathering
    this.#gathering.chars += chars
    return new Promise((resolve, reject) => parts.push({ entries, resolve, reject }))
  }

  /** Resolves when what was begun before has left and been answered, well or not. */
  async flush() {
    await this.#gathering?.left
  }

  #gather() {
    const frame = { parts: [], chars: 0 }
    // A tick comes after all that follows from what runs now, and before the next socket is read: decrypting what
    // came there would hold up the write by its own time.
    frame.left = new Promise((resolve) => process.nextTick(resolve)).then(() => {
      if (this.#gathering === frame) this.#gathering = null
      return this.#leave(frame.parts)
    })
    return frame
  }

  async #leave(parts) {
    try {
      await this.#send(dataJson(parts))
      for (const part of parts) part.resolve()
    } catch (error) {
      if (parts.length === 1 || error.retryable) for (const part of parts) part.reject(error)
      // One of them was refused for what it holds; the others must not share its fate.
      else for (const part of parts) await this.#leave([part])
    }
  }
}

function dataJson(parts) {
  const types = new Map()
  for (const { entries } of parts) {
    for (const [type, id, text] of entries) {
      if (!types.has(type)) types.set(type, new Map())
      types.get(type).set(id, text)
    }
  }
  const fields = (ids) => Array.from(ids, ([id, text]) => `${JSON.stringify(id)}:${text}`).join(',')
  return `{${Array.from(types, ([type, ids]) => `${JSON.stringify(type)}:{${fields(ids)}}`).join(',')}}`
}
