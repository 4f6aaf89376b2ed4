/**
 * Owns: the messages one contact decrypted, numbered, and what it could not decrypt.
 * Invariant: a message stands here once, however often Baileys yields it; one that was decrypted after a retry no
 * longer counts as undecryptable.
 */
import { proto } from 'baileys'
import { described, downloaded, mediaOf } from './contact-media.mjs'
import { isGroupJid } from './stanzas.mjs'

const KEPT = 5_000
const SEQ_DIGITS = 10
const CIPHERTEXT = proto.WebMessageInfo.StubType.CIPHERTEXT

export class ContactMessages {
  #journal
  #prefix
  #messages = []
  #ids = new Set()
  #unread = new Set()
  #nextSeq = 1

  constructor(journal, phone) {
    this.#journal = journal
    this.#prefix = `message/${phone}/`
    for (const [, message] of journal.entries(this.#prefix)) this.#messages.push(message)
    this.#messages.sort((a, b) => a.seq - b.seq)
    for (const { id } of this.#messages) this.#ids.add(id)
    this.#nextSeq = (this.#messages.at(-1)?.seq ?? 0) + 1
  }

  get count() {
    return this.#nextSeq - 1
  }

  get undecryptable() {
    return this.#unread.size
  }

  after(seq) {
    return this.#messages.filter((message) => message.seq > seq)
  }

  /** Records what came from others; the text where there is a new one (no file), otherwise null. */
  record({ key, message, messageStubType, messageTimestamp }) {
    if (key.fromMe) return null
    const media = mediaOf(message)
    const text =
      message?.conversation || message?.extendedTextMessage?.text || (media ? media.part.caption || '' : null)
    if (text === null) {
      if (messageStubType === CIPHERTEXT) this.#unread.add(key.id)
      return null
    }
    this.#unread.delete(key.id)
    if (this.#ids.has(key.id)) return null
    const kept = { seq: this.#nextSeq++, id: key.id, ...partiesOf(key), text, timestamp: Number(messageTimestamp) }
    this.#keep(media ? { ...kept, media: described(media) } : kept)
    if (!media) return text
    void this.#download(kept.seq, media)
    return null
  }

  remove() {
    for (const { seq } of this.#messages.splice(0)) this.#journal.delete(this.#journalKey(seq))
  }

  async #download(seq, media) {
    const found = await downloaded(media).catch((error) => ({ error: error.message }))
    const message = this.#messages.find((one) => one.seq === seq)
    if (!message) return
    Object.assign(message.media, found)
    this.#journal.put(this.#journalKey(seq), message)
  }

  #keep(message) {
    this.#messages.push(message)
    this.#ids.add(message.id)
    this.#journal.put(this.#journalKey(message.seq), message)
    if (this.#messages.length <= KEPT) return
    const oldest = this.#messages.shift()
    this.#ids.delete(oldest.id)
    this.#journal.delete(this.#journalKey(oldest.seq))
  }

  #journalKey(seq) {
    return this.#prefix + String(seq).padStart(SEQ_DIGITS, '0')
  }
}

/** Chat and sender by phone number where the message told it. */
function partiesOf(key) {
  const sender = isGroupJid(key.remoteJid)
    ? (key.participantAlt ?? key.participant)
    : (key.remoteJidAlt ?? key.remoteJid)
  return { chat: isGroupJid(key.remoteJid) ? key.remoteJid : sender, sender }
}
