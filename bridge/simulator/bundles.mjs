/**
 * Owns: the iq namespace `encrypt`: counting, uploading, rotating and handing out pre-key bundles.
 * Invariant: a bundle handed out always carries the newest signed pre-key of its device.
 */
import { createHash } from 'node:crypto'
import { LOW_PRE_KEYS } from './registry.mjs'
import { child, childBytes, children, firstChild, nowS, parseJid, QueryError, SERVER } from './stanzas.mjs'

export class Bundles {
  #registry
  #logins
  #notificationSeq = 0

  constructor({ registry, logins }) {
    this.#registry = registry
    this.#logins = logins
  }

  /** Content of the answer to an `encrypt` iq; throws QueryError for what no client may ask. */
  answer(connection, iq) {
    const request = firstChild(iq)
    if (child(iq, 'list')) return this.#upload(connection, iq)
    const handlers = { count: this.#count, digest: this.#digest, rotate: this.#rotate, key: this.#fetch }
    const handler = handlers[request?.tag]
    if (!handler) throw new QueryError(400, 'bad-request')
    return handler.call(this, connection, request)
  }

  #count({ device }) {
    return [{ tag: 'count', attrs: { value: String(this.#registry.preKeyCount(device)) } }]
  }

  #digest({ device }) {
    if (!this.#registry.preKeyCount(device)) throw new QueryError(404, 'item-not-found')
    const { registration, identity, signedPreKey } = device.bundle
    const preKeys = this.#registry.preKeys(device)
    const hash = createHash('sha1')
    for (const part of [identity, signedPreKey.value, signedPreKey.signature, ...preKeys.map(({ value }) => value)])
      hash.update(Buffer.from(part))
    const content = [
      leaf('registration', registration),
      leaf('type', Buffer.from([5])),
      leaf('identity', identity),
      { tag: 'skey', attrs: {}, content: ['id', 'value', 'signature'].map((name) => leaf(name, signedPreKey[name])) },
      { tag: 'list', attrs: {}, content: preKeys.map(({ id }) => leaf('id', id)) },
      leaf('hash', hash.digest()),
    ]
    return [{ tag: 'digest', attrs: {}, content }]
  }

  #upload({ account, device }, iq) {
    const keys = children(child(iq, 'list'), 'key').map((key) => ({
      id: childBytes(key, 'id'),
      value: childBytes(key, 'value'),
    }))
    const signedPreKey = signedPreKeyOf(child(iq, 'skey'))
    if (!signedPreKey || keys.some((key) => !key.id || !key.value)) throw new QueryError(400, 'bad-request')
    device.bundle = { registration: childBytes(iq, 'registration'), identity: childBytes(iq, 'identity'), signedPreKey }
    this.#registry.save(account)
    this.#registry.addPreKeys(device, keys)
  }

  #rotate({ account, device }, request) {
    const signedPreKey = signedPreKeyOf(child(request, 'skey'))
    if (!signedPreKey) throw new QueryError(400, 'bad-request')
    device.bundle = { ...device.bundle, signedPreKey }
    this.#registry.save(account)
  }

  /** Devices that are not linked (any more) are left out: an error for one would fail the send to all the others. */
  #fetch(_connection, request) {
    const users = children(request, 'user').flatMap(({ attrs: { jid } }) => {
      const account = this.#registry.accountOf(jid)
      const content = account && this.#registry.takeBundle(account, parseJid(jid).device)
      if (!content) return []
      this.#warnIfLow(account.devices[parseJid(jid).device])
      return [{ tag: 'user', attrs: { jid, t: nowS() }, content }]
    })
    return [{ tag: 'list', attrs: {}, content: users }]
  }

  #warnIfLow(device) {
    const connection = device && this.#logins.connectionOf(device)
    const left = device ? this.#registry.preKeyCount(device) : 0
    if (!connection?.active || left >= LOW_PRE_KEYS) return
    const attrs = { id: `low-${Date.now()}-${++this.#notificationSeq}`, type: 'encrypt', from: SERVER, t: nowS() }
    connection.send({ tag: 'notification', attrs, content: [{ tag: 'count', attrs: { value: String(left) } }] })
  }
}

const leaf = (tag, content) => ({ tag, attrs: {}, content: Buffer.from(content) })

function signedPreKeyOf(node) {
  const key = { id: childBytes(node, 'id'), value: childBytes(node, 'value'), signature: childBytes(node, 'signature') }
  return key.id && key.value && key.signature ? key : null
}
