/**
 * Owns what a company does in its chats beside sending: read marks, typing, and looking at groups.
 *
 * Invariant: a company shows itself as typing, and as online because of that, no longer than it was asked to.
 */

import { isJidGroup, jidDecode, proto } from 'baileys'
import { within } from './deadline.mjs'
import { asStandfastError, StandfastError } from './errors.mjs'
import { bringIn } from './media-in.mjs'

const ASK_TIMEOUT_MS = 15_000
const MAX_TYPING_S = 25
const MAX_KEYS = 500

export class Chats {
  #sock
  #left
  #typing = new Map()
  #subscribed = new Set()

  /** `left` resolves when what the socket was given to send so far has left. */
  constructor(sock, left) {
    this.#sock = sock
    this.#left = left
  }

  /** Tells senders that their messages were read (as far as the account's privacy settings let them know). */
  async read({ keys }) {
    if (!Array.isArray(keys) || keys.length === 0 || keys.length > MAX_KEYS || !keys.every(isKey))
      throw new StandfastError('usage', `keys must be 1 to ${MAX_KEYS} message keys`)
    await this.#done(this.#sock.readMessages(keys))
    return null
  }

  /** Shows the company as typing to `jid`, for `ttl_s` at most, or no longer. */
  async presence({ jid, typing, ttl_s: ttlS = MAX_TYPING_S }) {
    requireJid(jid)
    if (typeof typing !== 'boolean' || !(ttlS > 0 && ttlS <= MAX_TYPING_S))
      throw new StandfastError('usage', `typing must be true or false, ttl_s above 0 and at most ${MAX_TYPING_S}`)
    if (!typing) await this.#done(this.#pause(jid))
    else await this.#done(this.#compose(jid, ttlS * 1000))
    return null
  }

  /** Downloads a message's file into the sealed file `file`; resolves to its size and SHA-256. */
  async download({ key, content, file, max_bytes: maxBytes }) {
    if (!isKey(key) || typeof content !== 'string' || !Number.isSafeInteger(maxBytes))
      throw new StandfastError('usage', 'a download needs key, content, file and max_bytes')
    return bringIn(this.#sock, { key, message: decoded(content) }, file, maxBytes)
  }

  /** The groups that the company is in. */
  async groups() {
    const groups = await this.#done(this.#sock.groupFetchAllParticipating())
    return Object.values(groups).map(({ participants, ...group }) => ({
      ...summary(group),
      size: group.size ?? participants.length,
    }))
  }

  /** One group with its members. */
  async group({ jid }) {
    if (!isJidGroup(jid)) throw new StandfastError('usage', 'jid is not the address of a group')
    const group = await this.#done(this.#sock.groupMetadata(jid))
    return {
      ...summary(group),
      size: group.size ?? group.participants.length,
      description: group.desc ?? null,
      participants: group.participants.map(({ id, phoneNumber, lid, admin }) => ({
        jid: id,
        phone_jid: phoneNumber ?? (id.endsWith('@s.whatsapp.net') ? id : null),
        lid: lid ?? (id.endsWith('@lid') ? id : null),
        role: admin ?? 'member',
      })),
    }
  }

  /** The socket ends: nothing is shown any more. */
  close() {
    for (const timer of this.#typing.values()) clearTimeout(timer)
    this.#typing.clear()
  }

  async #compose(jid, ttlMs) {
    // WhatsApp passes on the typing of clients that are online only; others are told nothing.
    if (this.#typing.size === 0) await this.#sock.sendPresenceUpdate('available')
    if (!this.#subscribed.has(jid)) {
      this.#subscribed.add(jid)
      await this.#sock.presenceSubscribe(jid)
    }
    clearTimeout(this.#typing.get(jid))
    const timer = setTimeout(() => this.#pause(jid).catch(() => {}), ttlMs).unref()
    this.#typing.set(jid, timer)
    await this.#sock.sendPresenceUpdate('composing', jid)
  }

  async #pause(jid) {
    clearTimeout(this.#typing.get(jid))
    const wasTyping = this.#typing.delete(jid)
    await this.#sock.sendPresenceUpdate('paused', jid)
    // A company that stays online keeps its phone from notifying people.
    if (wasTyping && this.#typing.size === 0) await this.#sock.sendPresenceUpdate('unavailable')
  }

  async #done(work) {
    try {
      const asked = work.then(async (answer) => {
        await this.#left()
        return answer
      })
      return await within(ASK_TIMEOUT_MS, asked, overdue)
    } catch (error) {
      throw refusal(error)
    }
  }
}

function decoded(content) {
  try {
    return proto.Message.decode(Buffer.from(content, 'base64'))
  } catch {
    throw new StandfastError('usage', 'content is not a protocol buffer of WhatsApp')
  }
}

function summary({ id, subject, owner, ownerPn, creation, announce, restrict }) {
  return {
    jid: id,
    name: subject ?? '',
    owner: ownerPn ?? owner ?? null,
    created_s: creation ?? null,
    admins_only: Boolean(announce),
    locked: Boolean(restrict),
  }
}

function isKey(key) {
  return typeof key?.id === 'string' && key.id.length > 0 && Boolean(jidDecode(key.remoteJid)?.server)
}

function requireJid(jid) {
  if (typeof jid === 'string' && jidDecode(jid)?.server) return
  throw new StandfastError('usage', 'jid is not a WhatsApp address')
}

/** WhatsApp's own refusals (an unknown group, one that the company is not in) are the caller's to correct. */
function refusal(error) {
  const status = error?.data ?? error?.output?.statusCode
  if (error?.isBoom && [401, 403, 404, 406].includes(Number(status)))
    return new StandfastError('usage', `WhatsApp refused it (status ${status})`)
  return asStandfastError(error, 'send_failed')
}

function overdue() {
  return new StandfastError('send_failed', `WhatsApp did not answer in ${ASK_TIMEOUT_MS / 1000} s`)
}
