/**
 * Owns: phone accounts, their linked devices and the pre-key bundles of both.
 * Invariant: a one-time pre-key is handed out at most once; a device id is never used twice in an account.
 */
import { randomBytes, randomInt } from 'node:crypto'
import { Curve, encodeBigEndian, signedKeyPair } from 'baileys'
import { parseJid } from './stanzas.mjs'

const KEY_TYPE = Buffer.from([5])
const LID_DIGITS = 15
export const LOW_PRE_KEYS = 10

export const deviceKey = (phone, id) => `${phone}/${id}`

export class Registry {
  #journal
  #accounts = new Map()
  #byLid = new Map()
  #preKeys = new Map()

  constructor(journal) {
    this.#journal = journal
    for (const [, account] of journal.entries('account/')) this.#remember(account)
    for (const [key, list] of journal.entries('prekeys/'))
      this.#preKeys.set(key.slice('prekeys/'.length), { list, taken: 0 })
    for (const [key, taken] of journal.entries('taken/')) {
      const entry = this.#preKeys.get(key.slice('taken/'.length))
      if (entry) entry.taken = taken
    }
  }

  accounts() {
    return [...this.#accounts.values()]
  }

  /** The account of a phone number, or null. */
  account(phone) {
    return this.#accounts.get(phone) ?? null
  }

  /** The account that a phone-number jid or a LID jid belongs to, or null. */
  accountOf(jid) {
    const parsed = parseJid(jid)
    if (!parsed) return null
    return this.account(parsed.server === 'lid' ? this.#byLid.get(parsed.user) : parsed.user)
  }

  /** The linked device a jid names, or null; device 0, the phone itself, is no linked device. */
  deviceOf(jid) {
    return this.accountOf(jid)?.devices[parseJid(jid).device] ?? null
  }

  /** The account of the phone, made with a fresh identity where there is none yet. */
  ensureAccount(phone) {
    const known = this.account(phone)
    if (known) return known
    const identity = Curve.generateKeyPair()
    const account = {
      phone,
      lid: this.#freshLid(),
      rawId: randomInt(1, 2 ** 31),
      identity,
      registrationId: randomInt(1, 16380),
      signedPreKey: signedKeyPair(identity, 1),
      pushName: `Phone ${phone.slice(-4)}`,
      nextDeviceId: 1,
      devices: {},
    }
    this.#remember(account)
    this.save(account)
    return account
  }

  save(account) {
    this.#journal.put(`account/${account.phone}`, account)
  }

  /** Reserves a device id, which stays spent even if pairing fails. */
  reserveDeviceId(account) {
    const id = account.nextDeviceId++
    this.save(account)
    return id
  }

  addDevice(account, device) {
    account.devices[device.id] = { ...device, phone: account.phone, pairedAt: Date.now() }
    this.save(account)
    return account.devices[device.id]
  }

  /** A device that was paired elsewhere, with the LID that its creds name; what is there already is kept. */
  adoptDevice(phone, lid, device) {
    const account = this.ensureAccount(phone)
    if (lid && !this.#byLid.has(lid)) {
      this.#byLid.delete(account.lid)
      account.lid = lid
      this.#remember(account)
    }
    account.nextDeviceId = Math.max(account.nextDeviceId, device.id + 1)
    return account.devices[device.id] ?? this.addDevice(account, device)
  }

  removeDevice(account, id) {
    delete account.devices[id]
    const key = deviceKey(account.phone, id)
    this.#preKeys.delete(key)
    this.#journal.delete(`prekeys/${key}`)
    this.#journal.delete(`taken/${key}`)
    this.save(account)
  }

  preKeyCount(device) {
    const entry = this.#preKeys.get(deviceKey(device.phone, device.id))
    return entry ? entry.list.length - entry.taken : 0
  }

  /** The one-time pre-keys that are left, [{ id, value }] as bytes, in the order in which they are handed out. */
  preKeys(device) {
    const { list, taken } = this.#preKeys.get(deviceKey(device.phone, device.id)) ?? { list: [], taken: 0 }
    return list.slice(taken).map(preKeyOf)
  }

  /** Adds uploaded one-time pre-keys, [{ id, value }] as bytes, behind those still left. */
  addPreKeys(device, uploaded) {
    const key = deviceKey(device.phone, device.id)
    const entry = this.#preKeys.get(key)
    const left = entry ? entry.list.slice(entry.taken) : []
    const list = [...left, ...uploaded.map(({ id, value }) => [id.toString('base64'), value.toString('base64')])]
    this.#preKeys.set(key, { list, taken: 0 })
    this.#journal.put(`prekeys/${key}`, list)
    this.#journal.put(`taken/${key}`, 0)
  }

  /** The bundle children of device `id` with one one-time pre-key consumed, or null for a device that is not linked. */
  takeBundle(account, id) {
    if (id === 0) return bundleNodes(phoneBundle(account))
    const device = account.devices[id]
    return device ? bundleNodes({ ...device.bundle, preKey: this.#takePreKey(device) }) : null
  }

  #takePreKey(device) {
    const key = deviceKey(device.phone, device.id)
    const entry = this.#preKeys.get(key)
    if (!entry || entry.taken >= entry.list.length) return null
    const preKey = preKeyOf(entry.list[entry.taken++])
    this.#journal.put(`taken/${key}`, entry.taken)
    return preKey
  }

  #remember(account) {
    this.#accounts.set(account.phone, account)
    this.#byLid.set(account.lid, account.phone)
  }

  #freshLid() {
    for (;;) {
      const digits = BigInt(`0x${randomBytes(8).toString('hex')}`)
        .toString()
        .padStart(LID_DIGITS, '1')
      const lid = `1${digits.slice(-LID_DIGITS + 1)}`
      if (!this.#byLid.has(lid)) return lid
    }
  }
}

const preKeyOf = ([id, value]) => ({ id: Buffer.from(id, 'base64'), value: Buffer.from(value, 'base64') })

const phoneBundle = (account) => ({
  registration: encodeBigEndian(account.registrationId),
  identity: account.identity.public,
  signedPreKey: {
    id: encodeBigEndian(account.signedPreKey.keyId, 3),
    value: account.signedPreKey.keyPair.public,
    signature: account.signedPreKey.signature,
  },
  preKey: null,
})

const leaf = (tag, content) => ({ tag, attrs: {}, content: Buffer.from(content) })

function bundleNodes({ registration, identity, signedPreKey, preKey }) {
  const nodes = [leaf('registration', registration), leaf('type', KEY_TYPE), leaf('identity', identity)]
  const signed = ['id', 'value', 'signature'].map((name) => leaf(name, signedPreKey[name]))
  nodes.push({ tag: 'skey', attrs: {}, content: signed })
  if (preKey) nodes.push({ tag: 'key', attrs: {}, content: [leaf('id', preKey.id), leaf('value', preKey.value)] })
  return nodes
}
