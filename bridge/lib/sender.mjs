/**
 * Owns sending over one socket.
 *
 * Invariant: messages to one chat leave in the order in which they were handed over; a send resolves only after the
 * message left and the ratchet step that it took is stored (Baileys' sendMessage ends its transaction first).
 */

import { generateMessageIDV2, jidDecode, proto } from 'baileys'
import { within } from './deadline.mjs'
import { asStandfastError, StandfastError } from './errors.mjs'
import { CommitError } from './transaction-guard.mjs'
import { reviveBuffers } from './values.mjs'

const SEND_TIMEOUT_MS = 20_000

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
    this.#underWay.set(messageId, sending)
    try {
      return await within(SEND_TIMEOUT_MS, sending, () => overdue(messageId))
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
    this.#liveness.sending(messageId)
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
    try {
      return await this.#sock.sendMessage(jid, content, { messageId, quoted })
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

function overdue(messageId) {
  return repeatable(messageId, `the message was not sent in ${SEND_TIMEOUT_MS / 1000} s and may still leave`)
}

function unsettled(messageId, error) {
  return repeatable(messageId, `the message has left, and what belongs to it was not stored: ${error.message}`)
}

function repeatable(messageId, message) {
  const nextStep = 'Send it again with the same message_id: receivers show a repeated id once.'
  return new StandfastError('send_failed', message, { nextStep, facts: { message_id: messageId } })
}
