/**
 * Owns: groups, their members, and the iq namespace `w:g2`.
 * Invariant: members are known by phone and shown by LID with their phone number beside it; only members see a group.
 */
import { randomInt } from 'node:crypto'
import {
  child,
  children,
  firstChild,
  GROUP_SERVER,
  isGroupJid,
  lidJid,
  nowS,
  pnJid,
  QueryError,
  textOf,
} from './stanzas.mjs'

export class Groups {
  #registry
  #logins
  #journal
  #groups = new Map()
  #notificationSeq = 0

  constructor({ registry, logins, journal }) {
    this.#registry = registry
    this.#logins = logins
    this.#journal = journal
    for (const [, group] of journal.entries('group/')) this.#groups.set(group.jid, group)
  }

  all() {
    return [...this.#groups.values()]
  }

  /** The group, or null. */
  find(jid) {
    return this.#groups.get(jid) ?? null
  }

  isMember(group, phone) {
    return group.members.some((member) => member.phone === phone)
  }

  /** Every linked device of every member. */
  devices(group) {
    return group.members.flatMap(({ phone }) =>
      Object.values(this.#registry.account(phone)?.devices ?? {}).map((device) => ({ phone, device })),
    )
  }

  /** Makes a group; the first phone is its owner. Members' clients are told. */
  create(subject, phones, authorDevice = null) {
    const jid = `120363${Date.now()}${randomInt(10, 99)}@${GROUP_SERVER}`
    const members = [...new Set(phones)].map((phone, index) => ({ phone, role: index ? null : 'superadmin' }))
    const group = { jid, subject, owner: phones[0], createdS: nowS(), subjectS: nowS(), members, description: null }
    this.#groups.set(jid, group)
    this.#save(group)
    const create = { tag: 'create', attrs: { type: 'new' }, content: [this.#groupNode(group)] }
    this.#notify(group, group.owner, create, authorDevice)
    return group
  }

  /** The owner adds members; everybody's clients are told. */
  addMembers(group, phones) {
    this.#add(group, phones)
    this.#save(group)
    const content = phones.map((phone) => this.#participantNode({ phone, role: null }))
    this.#notify(group, group.owner, { tag: 'add', attrs: {}, content }, null)
  }

  answer(connection, iq) {
    const request = firstChild(iq)
    const { to, type } = iq.attrs
    if (!request) throw new QueryError(400, 'bad-request')
    if (!isGroupJid(to) || to === `@${GROUP_SERVER}`) return this.#answerServer(connection, request)
    const group = this.#groups.get(to)
    if (!group) throw new QueryError(404, 'item-not-found')
    if (!this.isMember(group, connection.account.phone)) throw new QueryError(403, 'forbidden')
    if (type === 'get') return request.tag === 'query' ? [this.#groupNode(group)] : null
    return this.#change(connection, group, request)
  }

  #answerServer(connection, request) {
    const { account, device } = connection
    if (request.tag === 'participating') {
      const mine = this.all().filter((group) => this.isMember(group, account.phone))
      return [{ tag: 'groups', attrs: {}, content: mine.map((group) => this.#groupNode(group)) }]
    }
    if (request.tag === 'create') {
      const phones = this.#phonesIn(request)
      return [this.#groupNode(this.create(request.attrs.subject, [account.phone, ...phones], device))]
    }
    if (request.tag === 'leave') return this.#leave(connection, request)
    return null
  }

  /** Content of the answer; null where this change is not simulated. */
  #change(connection, group, request) {
    const changes = { add: this.#add, remove: this.#remove, promote: this.#promote, demote: this.#promote }
    const phone = connection.account.phone
    if (changes[request.tag]) return this.#changeMembers(connection, group, request, changes[request.tag])
    if (request.tag === 'subject') {
      Object.assign(group, { subject: textOf(request), subjectS: nowS() })
      this.#notify(
        group,
        phone,
        { tag: 'subject', attrs: { subject: group.subject, s_t: group.subjectS } },
        connection.device,
      )
    } else if (request.tag === 'description') {
      const body = child(request, 'body')
      group.description = body ? { id: request.attrs.id, text: textOf(body), author: phone, atS: nowS() } : null
      this.#notify(
        group,
        phone,
        { tag: 'description', attrs: { ...request.attrs }, content: request.content },
        connection.device,
      )
    } else return null
    this.#save(group)
    return []
  }

  #changeMembers(connection, group, request, change) {
    const admin = group.members.find((member) => member.phone === connection.account.phone)?.role
    if (!admin) throw new QueryError(403, 'forbidden')
    const phones = this.#phonesIn(request)
    const told = new Set([...group.members.map((member) => member.phone), ...phones])
    change.call(this, group, phones, request.tag)
    this.#save(group)
    const participants = phones.map((phone) => this.#participantNode({ phone, role: null }))
    const node = { tag: request.tag, attrs: {}, content: participants }
    this.#notify(group, connection.account.phone, node, connection.device, told)
    return [
      {
        ...node,
        content: participants.map((participant) => ({ ...participant, attrs: { ...participant.attrs, error: '200' } })),
      },
    ]
  }

  #add(group, phones) {
    for (const phone of phones) if (!this.isMember(group, phone)) group.members.push({ phone, role: null })
  }

  #remove(group, phones) {
    group.members = group.members.filter((member) => !phones.includes(member.phone))
  }

  #promote(group, phones, tag) {
    for (const member of group.members)
      if (phones.includes(member.phone)) member.role = tag === 'promote' ? 'admin' : null
  }

  #leave(connection, request) {
    const { phone } = connection.account
    for (const {
      attrs: { id },
    } of children(request, 'group')) {
      const group = this.#groups.get(id)
      if (!group || !this.isMember(group, phone)) continue
      const told = group.members.map((member) => member.phone)
      this.#remove(group, [phone])
      this.#save(group)
      const node = { tag: 'remove', attrs: {}, content: [this.#participantNode({ phone, role: null })] }
      this.#notify(group, phone, node, connection.device, told)
    }
    return [
      {
        tag: 'leave',
        attrs: {},
        content: children(request, 'group').map(({ attrs }) => ({ tag: 'group', attrs: { id: attrs.id } })),
      },
    ]
  }

  #phonesIn(request) {
    const accounts = children(request, 'participant').map(({ attrs }) => this.#registry.accountOf(attrs.jid))
    return accounts.filter(Boolean).map((account) => account.phone)
  }

  #save(group) {
    this.#journal.put(`group/${group.jid}`, group)
  }

  /** Tells the devices of the members (or of `phones`), except the one that made the change. */
  #notify(group, author, change, authorDevice, phones = group.members.map((member) => member.phone)) {
    const { lid } = this.#registry.account(author)
    const id = `group-${Date.now()}-${++this.#notificationSeq}`
    const attrs = {
      id,
      type: 'w:gp2',
      from: group.jid,
      participant: lidJid(lid),
      participant_pn: pnJid(author),
      addressing_mode: 'lid',
      t: nowS(),
    }
    for (const phone of phones) {
      for (const device of Object.values(this.#registry.account(phone)?.devices ?? {})) {
        if (device !== authorDevice) this.#logins.deliver(device, { tag: 'notification', attrs, content: [change] })
      }
    }
  }

  #groupNode(group) {
    const owner = { jid: lidJid(this.#registry.account(group.owner).lid), pn: pnJid(group.owner) }
    const content = group.members.map((member) => this.#participantNode(member))
    if (group.description) content.push(this.#descriptionNode(group.description))
    return {
      tag: 'group',
      attrs: {
        id: group.jid.split('@')[0],
        subject: group.subject,
        addressing_mode: 'lid',
        creation: group.createdS,
        creator: owner.jid,
        creator_pn: owner.pn,
        s_t: group.subjectS,
        s_o: owner.jid,
        s_o_pn: owner.pn,
        size: String(group.members.length),
      },
      content,
    }
  }

  #descriptionNode({ id, text, author, atS }) {
    const { lid } = this.#registry.account(author)
    return {
      tag: 'description',
      attrs: { id, participant: lidJid(lid), participant_pn: pnJid(author), t: atS },
      content: [{ tag: 'body', attrs: {}, content: Buffer.from(text) }],
    }
  }

  #participantNode({ phone, role }) {
    const { lid } = this.#registry.account(phone)
    return { tag: 'participant', attrs: { jid: lidJid(lid), phone_number: pnJid(phone), type: role ?? undefined } }
  }
}
