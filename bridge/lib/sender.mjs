/**
 * Owns sending over one socket.
 *
 * Invariant: messages to one chat leave in the order in which they were handed over; a send resolves only after the
 * message left and the ratchet step that it took is stored (Baileys' sendMessage ends its transaction first).
 */

import { generateMessageIDV2, jidDecode, proto } from 'baileys'
import { within } from './deadline.mjs'
import { asStandfastError, StandfastError } from './errors.mjs'
import { sealedKind, uploadedBefore, withMedia } from './media-out.mjs'
import { CommitError } from './transaction-guard.mjs'
import { reviveBuffers } from './values.mjs'

const SEND_TIMEOUT_MS = 20_000
const UPLOAD_TIMEOUT_MS = 180_000

export class Sender {
  #sock
  #sent
  #left
  #liveness
  #tails = new Map()
  #underWay = new Map()

  /** `left` resolves when what the socket was given to send so far has left; `liveness` is told what was sent. */
  constructor(sock, sent, left, liveness) {
    this.#sock = sock
    this.#sent = sent
    this.#left = left
    this.#liveness = liveness
  }

  /**
   * Resolves to `{message_id, jid, timestamp_s, content}`, `content` as base64 of WhatsApp's protocol buffer; rejects with `usage`, `send_failed` or, where the store refused and
   * nothing has left, the store's error.
   */
  async send({ jid, content, message_id: givenId, quoted }) {
    requireMessage(jid, content, givenId)
    const messageId = givenId ?? generateMessageIDV2(this.#sock.user?.id)
    const sending = this.#inTurn(jid, () => this.#deliver(jid, reviveBuffers(content), messageId, quoted))
    const timeoutMs = sealedKind(content) ? UPLOAD_TIMEOUT_MS : SEND_TIMEOUT_MS
    this.#underWay.set(messageId, sending)
    try {
      return await within(timeoutMs, sending, () => overdue(messageId, timeoutMs))
    } catch (error) {
      throw error instanceof CommitError ? unsettled(messageId, error) : asStandfastError(error, 'send_failed')
    } finally {
      this.#underWay.delete(messageId)
    }
  }

  /** Whether the message was sent, or is being sent, by this company. */
  knows(messageId) {
    return this.#sent.has(messageId) || this.#underWay.has(messageId)
  }

  /** Resolves when no send is under way. */
  async idle() {
    await Promise.allSettled(this.#underWay.values())
  }

  #inTurn(jid, work) {
    const turn = (this.#tails.get(jid) ?? Promise.resolve()).then(work)
    const tail = turn
      .catch(() => {})
      .finally(() => {
        if (this.#tails.get(jid) === tail) this.#tails.delete(jid)
      })
    this.#tails.set(jid, tail)
    return turn
  }

  async #deliver(jid, content, messageId, quoted) {
    const message = await this.#sendMessage(jid, content, messageId, quoted)
    await this.#left()
    if (message?.message) this.#sent.put(messageId, message.message)
    const timestamp = Number(message?.messageTimestamp ?? Math.floor(Date.now() / 1000))
    return {
      message_id: messageId,
      jid: message?.key?.remoteJid ?? jid,
      timestamp_s: timestamp,
      content: message?.message ? encoded(message.message) : null,
    }
  }

  async #sendMessage(jid, content, messageId, quoted) {
    const sending = () => this.#liveness.sending(messageId)
    try {
      const message = uploadedBefore(content)
      if (message) {
        sending()
        await this.#sock.relayMessage(jid, message, { messageId })
        return { key: { remoteJid: jid }, message }
      }
      if (!sealedKind(content)) {
        sending()
        return await this.#sock.sendMessage(jid, content, { messageId, quoted })
      }
      // Until its file is uploaded the message is not on its way, and owes nobody a confirmation.
      const upload = async (...file) => {
        const uploaded = await this.#sock.waUploadToServer(...file)
        sending()
        return uploaded
      }
      const options = { messageId, quoted, upload, mediaUploadTimeoutMs: UPLOAD_TIMEOUT_MS }
      return await this.#sock.sendMessage(jid, await withMedia(content), options)
    } catch (error) {
      this.#liveness.confirmed(messageId)
      throw error
    }
  }
}

function requireMessage(jid, content, messageId) {
  if (typeof jid !== 'string' || !jidDecode(jid)?.server)
    throw new StandfastError('usage', 'jid is not a WhatsApp address')
  if (typeof content !== 'object' || content === null || Array.isArray(content)) {
    throw new StandfastError('usage', 'content must be a message content object, such as {"text": "hi"}')
  }
  if (messageId !== undefined && (typeof messageId !== 'string' || !/^[A-Za-z0-9_-]{8,64}$/.test(messageId))) {
    throw new StandfastError('usage', 'message_id must have 8 to 64 letters, digits, "_" or "-"')
  }
}

function encoded(content) {
  return Buffer.from(proto.Message.encode(content).finish()).toString('base64')
}

function overdue(messageId, timeoutMs) {
  return repeatable(messageId, `the message was not sent in ${timeoutMs / 1000} s and may still leave`)
}

function unsettled(messageId, error) {
  return repeatable(messageId, `the message has left, and what belongs to it was not stored: ${error.message}`)
}

function repeatable(messageId, message) {
  const nextStep = 'Send it again with the same message_id: receivers show a repeated id once.'
  return new StandfastError('send_failed', message, { nextStep, facts: { message_id: messageId } })
}
