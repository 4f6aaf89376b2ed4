/**
 * Owns: the durable key-value state of the simulator, one append-only file of JSON lines.
 * Invariant: after a crash the file yields a prefix of what was put, at most FLUSH_INTERVAL_MS old; a torn last
 * line is dropped, a broken line elsewhere is an error.
 */
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { BufferJSON } from 'baileys'

const FLUSH_INTERVAL_MS = 100
const COMPACT_MIN_LINES = 20_000
const COMPACT_GARBAGE_RATIO = 4
const WRITE_CHUNK_LINES = 2_000

const encodeLine = (key, value) =>
  JSON.stringify(value === undefined ? { k: key } : { k: key, v: value }, BufferJSON.replacer)

export class Journal {
  #path
  #file
  #values = new Map()
  #pending = new Set()
  #onDisk = new Set()
  #lines = 0
  #timer = null
  #writing = Promise.resolve()
  #log

  constructor(path, log) {
    this.#path = path
    this.#log = log
  }

  /** Reads the file (absent means empty), compacts it and opens it for appending. */
  static async open(path, log) {
    const journal = new Journal(path, log)
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    await journal.#load()
    await journal.#compact()
    return journal
  }

  get(key) {
    return this.#values.get(key)
  }

  /** Every [key, value] whose key begins with the prefix, in order of first put. A full scan: for start-up only. */
  *entries(prefix) {
    for (const entry of this.#values) if (entry[0].startsWith(prefix)) yield entry
  }

  put(key, value) {
    this.#values.set(key, value)
    this.#touch(key)
  }

  delete(key) {
    if (this.#values.delete(key)) this.#touch(key)
  }

  /** Resolves when everything put before the call is on disk; rejects when the disk refuses. */
  flush() {
    clearTimeout(this.#timer)
    this.#timer = null
    const run = this.#writing.then(() => this.#writePending())
    this.#writing = run.catch(() => {})
    return run
  }

  async close() {
    await this.flush()
    await this.#file?.close()
    this.#file = null
  }

  #touch(key) {
    this.#pending.add(key)
    this.#timer ??= setTimeout(() => this.flush().catch((error) => this.#reportFailure(error)), FLUSH_INTERVAL_MS)
  }

  #reportFailure(error) {
    this.#log.error({ err: error.message }, 'state could not be written; it will be tried again with the next change')
  }

  async #writePending() {
    if (!this.#pending.size || !this.#file) return
    const keys = this.#pending
    this.#pending = new Set()
    // A key put and deleted between two flushes never reaches the disk: the common case of a message acked at once.
    const changed = [...keys].filter((key) => this.#values.has(key) || this.#onDisk.has(key))
    try {
      await this.#append(changed)
    } catch (error) {
      for (const key of keys) this.#pending.add(key)
      throw error
    }
    if (this.#lines > COMPACT_MIN_LINES && this.#lines > COMPACT_GARBAGE_RATIO * this.#onDisk.size)
      await this.#compact()
  }

  async #append(keys) {
    if (!keys.length) return
    const text = keys.map((key) => `${encodeLine(key, this.#values.get(key))}\n`).join('')
    const present = keys.filter((key) => this.#values.has(key))
    await this.#file.appendFile(text)
    await this.#file.datasync()
    for (const key of keys) this.#onDisk.delete(key)
    for (const key of present) this.#onDisk.add(key)
    this.#lines += keys.length
  }

  async #load() {
    const text = await readFile(this.#path, 'utf8').catch((error) => {
      if (error.code === 'ENOENT') return ''
      throw error
    })
    const lines = text.split('\n')
    lines.pop() // What follows the last newline is empty, or was torn by a crash.
    for (const [index, line] of lines.entries()) this.#apply(line, index)
  }

  #apply(line, index) {
    let entry
    try {
      entry = JSON.parse(line, BufferJSON.reviver)
    } catch {
      throw new Error(
        `simulator state is damaged at line ${index + 1} of ${this.#path}; move the file aside to start empty`,
      )
    }
    if (entry.v === undefined) this.#values.delete(entry.k)
    else this.#values.set(entry.k, entry.v)
  }

  async #compact() {
    const beside = `${this.#path}.new`
    await rm(beside, { force: true })
    const file = await open(beside, 'ax', 0o600)
    const keys = [...this.#values.keys()]
    for (let at = 0; at < keys.length; at += WRITE_CHUNK_LINES) {
      const chunk = keys.slice(at, at + WRITE_CHUNK_LINES).filter((key) => this.#values.has(key))
      await file.appendFile(chunk.map((key) => `${encodeLine(key, this.#values.get(key))}\n`).join(''))
    }
    await file.sync()
    await rename(beside, this.#path)
    await syncDirectory(dirname(this.#path))
    await this.#file?.close()
    this.#file = file
    this.#onDisk = new Set(keys)
    this.#lines = keys.length
  }
}

async function syncDirectory(path) {
  const directory = await open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
