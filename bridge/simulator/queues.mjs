/**
 * Owns: what is still to be delivered to each linked device, durable and in order.
 * Invariant: a stanza leaves its queue only when the client acknowledged it, or when its device was unlinked.
 */
import { deviceKey } from './registry.mjs'

const SEQ_DIGITS = 12

/** What an acknowledgement of the stanza will name: a message by its id, the rest also by sender and type. */
export function ackKey({ tag, attrs }) {
  if (tag !== 'receipt') return `${tag}|${attrs.id}`
  return [tag, attrs.id, attrs.from, attrs.participant ?? '', attrs.type ?? ''].join('|')
}

export class Queues {
  #journal
  #byDevice = new Map()
  #nextSeq = 1

  constructor(journal) {
    this.#journal = journal
    for (const [key, stanza] of journal.entries('queue/')) {
      const [, phone, device, seq] = key.split('/')
      this.#of(deviceKey(phone, device)).push({ seq: Number(seq), ack: ackKey(stanza), stanza })
      this.#nextSeq = Math.max(this.#nextSeq, Number(seq) + 1)
    }
    for (const queue of this.#byDevice.values()) queue.sort((a, b) => a.seq - b.seq)
  }

  put(device, stanza) {
    const key = deviceKey(device.phone, device.id)
    const seq = this.#nextSeq++
    this.#of(key).push({ seq, ack: ackKey(stanza), stanza })
    this.#journal.put(this.#journalKey(key, seq), stanza)
  }

  /** Removes the oldest stanza with the key; true where there was one. */
  acknowledge(device, ack) {
    const key = deviceKey(device.phone, device.id)
    const queue = this.#of(key)
    const at = queue.findIndex((entry) => entry.ack === ack)
    if (at < 0) return false
    const [entry] = queue.splice(at, 1)
    this.#journal.delete(this.#journalKey(key, entry.seq))
    return true
  }

  /** Stanzas not yet acknowledged, oldest first. */
  waiting(device) {
    return this.#of(deviceKey(device.phone, device.id)).map((entry) => entry.stanza)
  }

  length(device) {
    return this.#byDevice.get(deviceKey(device.phone, device.id))?.length ?? 0
  }

  drop(device) {
    const key = deviceKey(device.phone, device.id)
    for (const { seq } of this.#of(key)) this.#journal.delete(this.#journalKey(key, seq))
    this.#byDevice.delete(key)
  }

  #of(key) {
    if (!this.#byDevice.has(key)) this.#byDevice.set(key, [])
    return this.#byDevice.get(key)
  }

  #journalKey(key, seq) {
    return `queue/${key}/${String(seq).padStart(SEQ_DIGITS, '0')}`
  }
}
