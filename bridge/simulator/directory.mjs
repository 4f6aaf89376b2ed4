/**
 * Owns: the iq namespace `usync`: who has an account, with which devices, LID and status.
 * Invariant: every device list names device 0, the phone, and each linked device with its key index.
 */
import { child, children, lidJid, nowS, parseJid, pnJid, textOf } from './stanzas.mjs'

export class Directory {
  #registry

  constructor({ registry }) {
    this.#registry = registry
  }

  answer(connection, iq) {
    const usync = child(iq, 'usync')
    const asked = (child(usync, 'query')?.content ?? []).map((node) => node.tag)
    const users = children(child(usync, 'list'), 'user').flatMap((user) => this.#user(connection, user, asked))
    return [{ tag: 'usync', attrs: { ...usync?.attrs }, content: [{ tag: 'list', attrs: {}, content: users }] }]
  }

  #user(connection, user, asked) {
    const jid = user.attrs.jid || contactJid(user)
    const account = jid && this.#registry.accountOf(jid)
    if (!account) return asked.includes('contact') && jid ? [absentUser(jid)] : []
    if (asked.includes('devices')) connection.watching.add(account.phone)
    const content = asked.map((protocol) => this.#protocol(protocol, account, jid)).filter(Boolean)
    return [{ tag: 'user', attrs: { jid }, content }]
  }

  #protocol(protocol, account, jid) {
    if (protocol === 'devices') return deviceList(account)
    if (protocol === 'contact') return { tag: 'contact', attrs: { type: 'in' } }
    if (protocol === 'status') return { tag: 'status', attrs: { t: nowS() }, content: Buffer.from('simulated') }
    if (protocol === 'disappearing_mode') return { tag: 'disappearing_mode', attrs: { duration: '0', t: nowS() } }
    // Baileys pairs the answer with the jid it asked for, so a LID is no answer to a LID.
    if (protocol === 'lid' && parseJid(jid).server !== 'lid') return { tag: 'lid', attrs: { val: lidJid(account.lid) } }
    return null
  }
}

const contactJid = (user) => {
  const digits = textOf(child(user, 'contact')).replace(/\D/g, '')
  return digits ? pnJid(digits) : null
}

const absentUser = (jid) => ({ tag: 'user', attrs: { jid }, content: [{ tag: 'contact', attrs: { type: 'out' } }] })

function deviceList(account) {
  const linked = Object.values(account.devices).map(({ id }) => ({
    tag: 'device',
    attrs: { id: String(id), 'key-index': String(id) },
  }))
  const content = [{ tag: 'device', attrs: { id: '0' } }, ...linked]
  return { tag: 'devices', attrs: {}, content: [{ tag: 'device-list', attrs: { hash: '2:sim' }, content }] }
}
