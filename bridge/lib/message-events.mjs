/**
 * Owns the translation of Baileys' message updates into the protocol's events. Pure: no socket, no state.
 *
 * Invariant: what is not a message of a person to a chat (key shares, sync notices) yields no event.
 */

import { WAMessageStatus, WAMessageStubType } from 'baileys'
import { contentOf } from './message-content.mjs'

const STATUSES = new Map([
  [WAMessageStatus.ERROR, 'failed'],
  [WAMessageStatus.SERVER_ACK, 'sent'],
  [WAMessageStatus.DELIVERY_ACK, 'delivered'],
  [WAMessageStatus.READ, 'read'],
  [WAMessageStatus.PLAYED, 'played'],
])

/** The event of one entry of `messages.upsert`, without company and generation; null where there is none. */
export function messageEvent(entry, me) {
  const { key } = entry
  if (entry.messageStubType === WAMessageStubType.CIPHERTEXT) {
    return { kind: 'undecryptable', message_id: key.id, chat: key.remoteJid }
  }
  const content = contentOf(entry.message)
  if (!content) return null
  const message = {
    id: key.id,
    chat: key.remoteJid,
    chat_alt: key.remoteJidAlt || undefined,
    ...senderOf(key, me),
    from_me: Boolean(key.fromMe),
    timestamp_s: Number(entry.messageTimestamp ?? 0),
    push_name: entry.pushName || undefined,
    ...content,
    live: !key.fromMe,
  }
  return { kind: 'message', message }
}

/** The events of `messages.update`: what became of messages that this company sent to one person. */
export function statusEvents(updates) {
  return updates
    .filter(({ key, update }) => key.fromMe && STATUSES.has(update.status))
    .map(({ key, update }) => receipt(key, STATUSES.get(update.status)))
}

/** The events of `message-receipt.update`: the same in groups. */
export function receiptEvents(updates) {
  return updates
    .filter(({ key }) => key.fromMe)
    .map(({ key, receipt: { readTimestamp } }) => receipt(key, readTimestamp ? 'read' : 'delivered'))
}

/** The event of a server's `ack` to a message, or null for a refusal, which Baileys reports itself. */
export function ackEvent({ attrs }) {
  return attrs.error ? null : receipt({ id: attrs.id, remoteJid: attrs.from }, 'sent')
}

/** The events of a receipt from a device whose user is not looking, which Baileys passes over: delivered all the same. */
export function inactiveReceiptEvents({ attrs, content }) {
  if (attrs.recipient) return []
  const items = Array.isArray(content) ? (content.find((node) => node.tag === 'list')?.content ?? []) : []
  const ids = [attrs.id, ...items.map((item) => item.attrs.id)]
  return ids.map((id) => receipt({ id, remoteJid: attrs.from }, 'delivered'))
}

function receipt(key, status) {
  return { kind: 'receipt', message_id: key.id, chat: key.remoteJid, status }
}

function senderOf(key, me) {
  if (key.fromMe) return { sender: me?.id, sender_alt: me?.lid }
  if (key.participant) return { sender: key.participant, sender_alt: key.participantAlt || undefined }
  return { sender: key.remoteJid, sender_alt: key.remoteJidAlt || undefined }
}
