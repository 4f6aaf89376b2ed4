/**
 * Owns: the auth state of one contact, held in memory and written through the simulator's journal.
 * Invariant: get sees every earlier set at once; after a crash the ratchets may be up to one flush old and are
 * therefore dropped, to be built anew from pre-keys.
 */
import { initAuthCreds } from 'baileys'

/** Key types that must not be rolled back: a counter used twice is dropped by the receiver in silence. */
const RATCHETS = ['session', 'sender-key', 'sender-key-memory']

export class ContactAuth {
  #journal
  #prefix
  #values = new Map()

  constructor(journal, phone, cleanStart) {
    this.#journal = journal
    this.#prefix = `auth/${phone}/`
    for (const [key, value] of journal.entries(this.#prefix)) this.#values.set(key.slice(this.#prefix.length), value)
    this.creds = this.#values.get('creds') ?? initAuthCreds()
    if (!cleanStart) this.loseSessions()
  }

  saveCreds(update) {
    Object.assign(this.creds, update)
    this.#put('creds', this.creds)
  }

  state() {
    return { creds: this.creds, keys: { get: (type, ids) => this.#get(type, ids), set: (data) => this.#set(data) } }
  }

  remove() {
    for (const name of [...this.#values.keys()]) this.#delete(name)
  }

  async #get(type, ids) {
    const found = {}
    for (const id of ids) {
      const value = this.#values.get(`${type}/${id}`)
      if (value !== undefined) found[id] = value
    }
    return found
  }

  async #set(data) {
    for (const type in data) {
      for (const id in data[type]) {
        if (data[type][id]) this.#put(`${type}/${id}`, data[type][id])
        else this.#delete(`${type}/${id}`)
      }
    }
  }

  /** Forgets every ratchet: what comes next cannot be decrypted, and is asked for again. */
  loseSessions() {
    for (const name of [...this.#values.keys()]) if (RATCHETS.includes(name.split('/')[0])) this.#delete(name)
  }

  #put(name, value) {
    this.#values.set(name, value)
    this.#journal.put(this.#prefix + name, value)
  }

  #delete(name) {
    this.#values.delete(name)
    this.#journal.delete(this.#prefix + name)
  }
}
