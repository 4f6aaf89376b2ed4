/**
 * Owns a company's key store as Baileys sees it: a coherent copy of keys in front of the gateway.
 *
 * Invariant: a read never returns something older than the last write that was accepted or is still under way.
 * Holding the company makes this client its only writer, so it may also remember absences. Why not Baileys' own
 * cache: that one keeps a value whose write failed, hands out the live object to be changed in place, forgets after
 * five minutes and asks again for every absent key. Here a failed write drops its keys, values are kept as text
 * and parsed afresh for each read, and what is evicted or in doubt is read again from the gateway.
 */

import { proto } from 'baileys'
import { encodeValue, reviveBuffers } from './values.mjs'

const DEFAULT_LIMIT_CHARS = 16 * 1024 * 1024
/** What an entry costs beside its text, so that a million remembered absences are bounded too. */
const ENTRY_OVERHEAD_CHARS = 160

/**
 * @param {{ fetch: (type: string, ids: string[]) => Promise<Record<string, unknown>>,
 *   store: (dataJson: string) => Promise<void>, clear: () => Promise<void>, limitChars?: number }} remote
 */
export class KeyMirror {
  #remote
  #limitChars
  #entries = new Map()
  #chars = 0
  #sequence = 0
  #era = 0
  #firstTry = new WeakMap()

  constructor(remote) {
    this.#remote = remote
    this.#limitChars = remote.limitChars ?? DEFAULT_LIMIT_CHARS
  }

  /** The keys that exist among `ids`. A failure rejects: it is never an absence. */
  async get(type, ids) {
    const found = {}
    const missing = []
    for (const id of ids) {
      const entry = this.#entries.get(nameOf(type, id))
      if (entry) put(found, type, id, entry.text)
      else missing.push(id)
    }
    if (missing.length > 0) await this.#fetch(type, missing, found)
    return found
  }

  /** Writes one batch; resolves when it is durable. Falsy values delete. */
  async set(data) {
    const sequence = ++this.#sequence
    const { json, texts } = this.#encode(data, this.#notRolledBack(data, sequence))
    if (texts.length === 0) return
    for (const [name, text] of texts) this.#remember(name, text, sequence, true)
    try {
      await this.#remote.store(json)
      for (const [name] of texts) this.#settle(name, sequence)
    } catch (error) {
      for (const [name] of texts) this.#forget(name, sequence)
      throw error
    } finally {
      this.#evict()
    }
  }

  async clear() {
    this.reset()
    await this.#remote.clear()
    this.reset()
  }

  /** Forgets all that is settled: another holder may have written while the company was not held. */
  reset() {
    this.#era++
    for (const [name, entry] of this.#entries) if (!entry.pending) this.#drop(name, entry)
  }

  async #fetch(type, ids, found) {
    const era = this.#era
    const fetched = await this.#remote.fetch(type, ids)
    for (const id of ids) {
      const name = nameOf(type, id)
      const newer = this.#entries.get(name)
      // A write that overtook this read wins, in the answer too.
      const text = newer ? newer.text : textOf(fetched[id])
      put(found, type, id, text)
      if (!newer && era === this.#era) this.#remember(name, text, 0, false)
    }
    this.#evict()
  }

  /**
   * Baileys repeats a failed commit with the very same object, seconds later; keys that a newer batch has
   * written meanwhile must not be rolled back by the repetition.
   */
  #notRolledBack(data, sequence) {
    const first = this.#firstTry.get(data)
    if (first === undefined) this.#firstTry.set(data, sequence)
    return (name) => first === undefined || (this.#entries.get(name)?.sequence ?? 0) <= first
  }

  /** True for what the gateway has acknowledged in just this form: a transaction repeats what was written ahead. */
  #isStored(name, text) {
    const entry = this.#entries.get(name)
    return entry !== undefined && !entry.pending && entry.text === text
  }

  #encode(data, wanted) {
    const texts = []
    const types = []
    for (const type of Object.keys(data)) {
      const fields = []
      for (const id of Object.keys(data[type] ?? {})) {
        const name = nameOf(type, id)
        if (!wanted(name)) continue
        const text = data[type][id] ? encodeValue(data[type][id]) : null
        if (this.#isStored(name, text)) continue
        texts.push([name, text])
        fields.push(`${JSON.stringify(id)}:${text}`)
      }
      if (fields.length > 0) types.push(`${JSON.stringify(type)}:{${fields.join(',')}}`)
    }
    return { json: `{${types.join(',')}}`, texts }
  }

  #remember(name, text, sequence, pending) {
    const old = this.#entries.get(name)
    if (old) this.#drop(name, old)
    this.#entries.set(name, { text, sequence, pending })
    this.#chars += cost(name, text)
  }

  #settle(name, sequence) {
    const entry = this.#entries.get(name)
    if (entry?.sequence === sequence) entry.pending = false
  }

  #forget(name, sequence) {
    const entry = this.#entries.get(name)
    if (entry?.sequence === sequence) this.#drop(name, entry)
  }

  #drop(name, entry) {
    this.#entries.delete(name)
    this.#chars -= cost(name, entry.text)
  }

  /** Oldest entry first; a pending one stays, for the gateway may not yet answer with it. */
  #evict() {
    if (this.#chars <= this.#limitChars) return
    for (const [name, entry] of this.#entries) {
      if (this.#chars <= this.#limitChars) return
      if (!entry.pending) this.#drop(name, entry)
    }
  }
}

function nameOf(type, id) {
  return `${type}\0${id}`
}

function cost(name, text) {
  return name.length + (text?.length ?? 0) + ENTRY_OVERHEAD_CHARS
}

function textOf(value) {
  return value === undefined || value === null ? null : JSON.stringify(value)
}

function put(found, type, id, text) {
  if (text === null) return
  const value = reviveBuffers(JSON.parse(text))
  // A plain object here makes Baileys' app-state code fail silently; `create` would keep base64 as text.
  found[id] = type === 'app-state-sync-key' ? proto.Message.AppStateSyncKeyData.fromObject(value) : value
}
