/**
 * Owns cutting a byte stream into newline-ended frames.
 *
 * Invariant: each byte is copied at most once before it is decoded, however many chunks a frame arrives in.
 */

const NEWLINE = 0x0a

/** Collects chunks; `push` returns the frames that became complete, as strings. Throws RangeError beyond the limit. */
export class FrameSplitter {
  constructor(limitBytes) {
    this.limitBytes = limitBytes
    this.parts = []
    this.partBytes = 0
  }

  push(chunk) {
    const frames = []
    let start = 0
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      frames.push(this.#complete(chunk, start, end))
      start = end + 1
    }
    if (start < chunk.length) this.#keep(chunk.subarray(start))
    return frames
  }

  #keep(part) {
    this.parts.push(part)
    this.partBytes += part.length
    this.#check(this.partBytes)
  }

  #complete(chunk, start, end) {
    this.#check(this.partBytes + end - start)
    if (this.parts.length === 0) return chunk.toString('utf8', start, end)
    this.parts.push(chunk.subarray(start, end))
    const frame = Buffer.concat(this.parts).toString('utf8')
    this.parts = []
    this.partBytes = 0
    return frame
  }

  #check(bytes) {
    if (bytes > this.limitBytes) throw new RangeError(`frame of more than ${this.limitBytes} bytes`)
  }
}
