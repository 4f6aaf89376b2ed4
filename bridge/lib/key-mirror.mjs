/**
 * Owns a company's key store as Baileys sees it: a coherent copy of keys in front of the gateway.
 *
 * Invariant: a read never returns something older than the last write that was accepted or is still under way.
 * Holding the company makes this client its only writer, so it may also remember absences. Why not Baileys' own
 * cache: that one keeps a value whose write failed, hands out the live object to be changed in place, forgets after
 * five minutes and asks again for every absent key. Here a failed write drops its keys, values other than sessions are
 * kept as text and parsed afresh for each read, and what is evicted or in doubt is read again from the gateway.
 */

import { proto } from 'baileys'
import { BatchWriter } from './batch-writer.mjs'
import { encodeSession, encodeValue, reviveBuffers } from './values.mjs'

const DEFAULT_LIMIT_CHARS = 16 * 1024 * 1024
/**
 * Types whose values are kept as objects: libsignal copies a session when it reads one and makes a new object for each
 * that it writes (`SessionRecord.deserialize`, `serialize`), and parsing sessions was a tenth of a message's time.
 */
const LIVE = new Set(['session'])
/**
 * Types whose values are read once or twice in their life: they are left to the gateway as soon as it has them. Baileys
 * makes 812 pre-keys for each company, which else were 0.4 MB of a host's memory for as long as the session lasts.
 */
const RARE = new Set(['pre-key'])
/** What an entry costs beside its text, so that a million remembered absences are bounded too. */
const ENTRY_OVERHEAD_CHARS = 160

/**
 * @param {{ fetch: (type: string, ids: string[]) => Promise<Record<string, unknown>>,
 *   store: (dataJson: string) => Promise<void>, clear: () => Promise<void>, limitChars?: number }} remote
 */
export class KeyMirror {
  #remote
  #writer
  #limitChars
  #entries = new Map()
  #chars = 0
  #sequence = 0
  #era = 0
  #firstTry = new WeakMap()

  constructor(remote) {
    this.#remote = remote
    this.#writer = new BatchWriter(remote.store)
    this.#limitChars = remote.limitChars ?? DEFAULT_LIMIT_CHARS
  }

  /** The keys that exist among `ids`. A failure rejects: it is never an absence. */
  async get(type, ids) {
    const found = {}
    const missing = []
    for (const id of ids) {
      const entry = this.#entries.get(nameOf(type, id))
      if (entry) put(found, type, id, entry)
      else missing.push(id)
    }
    if (missing.length > 0) await this.#fetch(type, missing, found)
    return found
  }

  /** Writes one batch; resolves when it is durable. Falsy values delete. */
  async set(data) {
    const sequence = ++this.#sequence
    const entries = this.#encode(data, this.#notRolledBack(data, sequence))
    if (entries.length === 0) return
    for (const [type, id, text] of entries) {
      this.#remember(nameOf(type, id), entryOf(type, text, data[type][id]), sequence, true)
    }
    try {
      await this.#writer.write(entries)
      for (const [type, id, text] of entries) {
        if (isRare(type, text)) this.#forget(nameOf(type, id), sequence)
        else this.#settle(nameOf(type, id), sequence)
      }
    } catch (error) {
      for (const [type, id] of entries) this.#forget(nameOf(type, id), sequence)
      throw error
    } finally {
      this.#evict()
    }
  }

  async clear() {
    this.reset()
    await this.#writer.flush()
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
      const entry = newer ?? entryOf(type, textOf(fetched[id]))
      put(found, type, id, entry)
      if (!newer && era === this.#era && !isRare(type, entry.text)) this.#remember(name, entry, 0, false)
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

  #encode(data, wanted) {
    const entries = []
    for (const type of Object.keys(data)) {
      for (const id of Object.keys(data[type] ?? {})) {
        const name = nameOf(type, id)
        if (!wanted(name)) continue
        const value = data[type][id] || null
        const old = this.#entries.get(name)
        // A transaction repeats what was written ahead of it: the very object, or the same text.
        if (old && !old.pending && value && old.value === value) continue
        const text = value ? textToStore(type, value) : null
        if (!old || old.pending || old.text !== text) entries.push([type, id, text])
      }
    }
    return entries
  }

  #remember(name, entry, sequence, pending) {
    const old = this.#entries.get(name)
    if (old) this.#drop(name, old)
    this.#entries.set(name, Object.assign(entry, { sequence, pending }))
    this.#chars += cost(name, entry)
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
    this.#chars -= cost(name, entry)
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

/** An absence is remembered: it also keeps a batch that is repeated from bringing the key back. */
function isRare(type, text) {
  return text !== null && RARE.has(type)
}

function nameOf(type, id) {
  return `${type}\0${id}`
}

function cost(name, { text, value }) {
  return name.length + (text?.length ?? 0) * (value ? 2 : 1) + ENTRY_OVERHEAD_CHARS
}

/** A key as it is kept: as text, and where that is safe as the object too; null text is an absence. */
function entryOf(type, text, value) {
  if (text === null || !LIVE.has(type)) return { text, value: undefined }
  return { text, value: value ?? reviveBuffers(JSON.parse(text)) }
}

function textToStore(type, value) {
  return type === 'session' ? encodeSession(value) : encodeValue(value)
}

function textOf(value) {
  return value === undefined || value === null ? null : JSON.stringify(value)
}

function put(found, type, id, entry) {
  if (entry.text === null) return
  const value = entry.value ?? reviveBuffers(JSON.parse(entry.text))
  // A plain object here makes Baileys' app-state code fail silently; `create` would keep base64 as text.
  found[id] = type === 'app-state-sync-key' ? proto.Message.AppStateSyncKeyData.fromObject(value) : value
}
