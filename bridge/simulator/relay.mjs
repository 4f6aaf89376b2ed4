/**
 * Owns: the way of messages, receipts and acks from one device to the others.
 * Invariant: ciphertext passes untouched, each copy to the one device it was sealed for, in the order it was sent.
 */

import { ackKey } from './queues.mjs'
import { child, children, isGroupJid, lidJid, nowS, parseJid, pnJid } from './stanzas.mjs'

/** Parts of a message that the server reads itself and does not pass on. */
const CONSUMED = new Set(['participants', 'enc', 'tctoken', 'reporting'])
/** Receipts that only the user's phone reads. */
const FOR_PHONE = new Set(['peer_msg', 'hist_sync'])
const ANY_DEVICE = 'all linked devices'

export class Relay {
  #registry
  #logins
  #groups
  #faults
  #stats

  constructor({ registry, logins, groups, faults, stats }) {
    this.#registry = registry
    this.#logins = logins
    this.#groups = groups
    this.#faults = faults
    this.#stats = stats
  }

  onMessage(connection, node) {
    this.#stats.messages_in++
    const t = nowS()
    this.#acknowledge(connection, node, { t })
    if (isGroupJid(node.attrs.to)) this.#toGroup(connection, node, t)
    else this.#toUsers(connection, node, t)
  }

  /** Typing is passed on to who is there now, and kept for nobody. */
  onChatState(connection, node) {
    const { account, device } = connection
    const state = node.content?.[0]?.tag ?? 'none'
    this.#stats.chat_states[state] = (this.#stats.chat_states[state] ?? 0) + 1
    const from = lidJid(account.lid, device.id)
    const group = isGroupJid(node.attrs.to) && this.#groups.find(node.attrs.to)
    const attrs = group ? { from: group.jid, participant: from } : { from }
    const devices = group
      ? this.#groups.devices(group).map((member) => member.device)
      : this.#devicesFor(connection, node.attrs.to)
    for (const target of devices) if (target !== device) this.#logins.connectionOf(target)?.send({ ...node, attrs })
  }

  onReceipt(connection, node) {
    const type = node.attrs.type ?? 'delivery'
    this.#stats.receipts[type] = (this.#stats.receipts[type] ?? 0) + 1
    if (type === 'retry') this.#stats.retries++
    this.#consume(connection, `message|${node.attrs.id}`)
    this.#acknowledge(connection, node, {})
    for (const { device, attrs } of this.#receiptTargets(connection, node)) {
      this.#logins.deliver(device, { tag: 'receipt', attrs, content: node.content })
    }
  }

  onAck(connection, node) {
    const { id, to, participant, type } = node.attrs
    if (node.attrs.class === 'message' && node.attrs.error) this.#stats.nacks++
    this.#consume(connection, ackKey({ tag: node.attrs.class, attrs: { id, from: to, participant, type } }))
  }

  #consume(connection, key) {
    if (this.#faults.take('lose-acks', connection.account.phone)) return
    if (this.#logins.acknowledge(connection, key)) this.#stats.acknowledged++
  }

  #acknowledge(connection, node, extra) {
    if (this.#faults.active('lose-acks', connection.account.phone)) return
    const { id, to, participant, type } = node.attrs
    connection.send({ tag: 'ack', attrs: { id, class: node.tag, from: to, participant, type, ...extra } })
  }

  #toUsers(connection, node, t) {
    const { account } = connection
    for (const { jid, enc } of copiesOf(node)) {
      const device = this.#addressee(connection, jid)
      if (!device) continue
      const own = device.phone === account.phone
      const attrs = own ? this.#ownCopyAttrs(node) : { sender_pn: pnJid(account.phone) }
      this.#send(connection, device, node, { from: lidJid(account.lid, connection.device.id), ...attrs, t }, [enc])
    }
  }

  #toGroup(connection, node, t) {
    const group = this.#groups.find(node.attrs.to)
    const { account } = connection
    if (!group || !this.#groups.isMember(group, account.phone)) return void this.#stats.undeliverable++
    const attrs = {
      from: group.jid,
      participant: lidJid(account.lid, connection.device.id),
      participant_pn: pnJid(account.phone),
      t,
    }
    const shared = children(node, 'enc')
    const single = node.attrs.participant && this.#addressee(connection, node.attrs.participant)
    if (node.attrs.participant) return single && this.#send(connection, single, node, attrs, shared)
    const sealed = new Map(copiesOf(node).map(({ jid, enc }) => [this.#registry.deviceOf(jid), enc]))
    for (const { device } of this.#groups.devices(group)) {
      if (device === connection.device) continue
      const key = sealed.get(device)
      this.#send(connection, device, node, attrs, key ? [key, ...shared] : shared)
    }
  }

  #send(connection, device, node, attrs, enc) {
    const { id, type, edit } = node.attrs
    const rest = (node.content ?? []).filter((part) => !CONSUMED.has(part.tag))
    const notify = connection.account.pushName
    this.#stats.relayed++
    this.#logins.deliver(device, {
      tag: 'message',
      attrs: { id, type, edit, addressing_mode: 'lid', notify, ...attrs },
      content: [...enc, ...rest],
    })
  }

  /** The linked device a copy is for; null for the sender itself, for a phone (which swallows it) and for the unknown. */
  #addressee(connection, jid) {
    const device = this.#registry.deviceOf(jid)
    if (device) return device === connection.device ? null : device
    const isPhone = this.#registry.accountOf(jid) && parseJid(jid).device === 0
    this.#stats[isPhone ? 'to_phone' : 'undeliverable']++
    return null
  }

  /** What a device of the sender's own account must know: in which chat the message stands. */
  #ownCopyAttrs(node) {
    const chat = node.attrs.recipient ?? node.attrs.to
    const peer = this.#registry.accountOf(chat)
    return peer ? { recipient: lidJid(peer.lid), peer_recipient_pn: pnJid(peer.phone) } : { recipient: chat }
  }

  #receiptTargets(connection, node) {
    const { id, to, type, participant, recipient } = node.attrs
    const { account, device } = connection
    const reader = lidJid(account.lid, device.id)
    const common = { id, type, t: node.attrs.t ?? nowS() }
    if (FOR_PHONE.has(type)) return []
    if (type === 'read-self') {
      return this.#devicesFor(connection, pnJid(account.phone)).map((target) => ({
        device: target,
        attrs: { ...common, from: reader, recipient: to },
      }))
    }
    if (isGroupJid(to)) {
      return this.#devicesFor(connection, participant).map((target) => ({
        device: target,
        attrs: { ...common, from: to, participant: reader },
      }))
    }
    return this.#devicesFor(connection, to).map((target) => ({
      device: target,
      attrs: { ...common, from: reader, recipient },
    }))
  }

  /** The device a jid names, or all linked devices of a user; never the connection's own. */
  #devicesFor(connection, jid) {
    const account = jid && this.#registry.accountOf(jid)
    if (!account) return []
    const wanted = parseJid(jid).namesDevice ? parseJid(jid).device : ANY_DEVICE
    return Object.values(account.devices).filter(
      (device) => device !== connection.device && (wanted === ANY_DEVICE || device.id === wanted),
    )
  }
}

/** The sealed copies of a message: one for each `to`, or the single one that stands in the message itself. */
function copiesOf(node) {
  const participants = child(node, 'participants')
  if (participants) return children(participants, 'to').map((to) => ({ jid: to.attrs.jid, enc: child(to, 'enc') }))
  return isGroupJid(node.attrs.to) ? [] : children(node, 'enc').map((enc) => ({ jid: node.attrs.to, enc }))
}
