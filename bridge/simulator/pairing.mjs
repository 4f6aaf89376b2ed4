/**
 * Owns: clients that wait to be paired, the QR refs they were given, and the exchange pair-success → signed identity.
 * Invariant: a device is linked only after its client proved its identity key, and it is on disk before the client
 * is told to restart.
 */
import { randomBytes } from 'node:crypto'
import { Curve, hmacSign, proto } from 'baileys'
import { AdminError } from './admin-errors.mjs'
import { child, childBytes, lidJid, pnJid, SERVER, streamError } from './stanzas.mjs'

const REFS_PER_CLIENT = 6
const SIGN_TIMEOUT_MS = 10_000
const ACCOUNT_SIGNATURE_PREFIX = Buffer.from([6, 0])
const DEVICE_SIGNATURE_PREFIX = Buffer.from([6, 1])

export class Pairing {
  #registry
  #logins
  #journal
  #stats
  #byRef = new Map()
  #waiting = new Set()
  #nextIq = 1

  constructor({ registry, logins, journal, stats }) {
    this.#registry = registry
    this.#logins = logins
    this.#journal = journal
    this.#stats = stats
  }

  waitingClients() {
    return [...this.#waiting].map(({ refs, since, sign }) => ({
      refs_outstanding: refs.length,
      since,
      signing: Boolean(sign),
    }))
  }

  /** Gives an unregistered client its QR refs. */
  begin(connection, { devicePairingData: data }) {
    if (!data?.eIdent?.length) return connection.close(streamError(400))
    const refs = Array.from({ length: REFS_PER_CLIENT }, () => `2@${randomBytes(24).toString('base64url')}`)
    connection.pairing = {
      refs,
      since: Date.now(),
      identity: Buffer.from(data.eIdent),
      bundle: bundleOf(data),
      sign: null,
    }
    this.#waiting.add(connection.pairing)
    for (const ref of refs) this.#byRef.set(ref, connection)
    const content = refs.map((ref) => ({ tag: 'ref', attrs: {}, content: Buffer.from(ref) }))
    const attrs = { id: this.#iqId(), type: 'set', from: SERVER, xmlns: 'md' }
    connection.send({ tag: 'iq', attrs, content: [{ tag: 'pair-device', attrs: {}, content }] })
  }

  end(connection) {
    const { pairing } = connection
    if (!pairing) return
    for (const ref of pairing.refs) this.#byRef.delete(ref)
    this.#waiting.delete(pairing)
    pairing.sign?.reject(
      new AdminError(
        409,
        'client_gone',
        'the client disconnected while it was being paired',
        'start the client again and scan its new QR',
      ),
    )
  }

  /** The user's phone scans the QR; resolves with the linked device. */
  async scan(qr, phone) {
    const [ref, noiseKey, identity, advSecret] = qr.split('#').pop().split(',')
    const connection = this.#byRef.get(ref)
    if (!connection?.open)
      throw new AdminError(404, 'unknown_qr', 'no client is waiting with this QR', 'take the QR the client shows now')
    const matches =
      connection.clientStatic.equals(Buffer.from(noiseKey ?? '', 'base64')) &&
      connection.pairing.identity.equals(Buffer.from(identity ?? '', 'base64'))
    if (!matches)
      throw new AdminError(
        400,
        'qr_mismatch',
        'the QR names other keys than its client',
        'pass the QR exactly as the client emitted it',
      )
    return this.link(connection, this.#registry.ensureAccount(phone), Buffer.from(advSecret ?? '', 'base64'))
  }

  /** Sends pair-success sealed with the secret that client and phone share, and waits for the client's signature. */
  link(connection, account, advSecret) {
    const { pairing } = connection
    if (pairing.sign)
      throw new AdminError(
        409,
        'already_pairing',
        'this client is being paired already',
        'wait for the first request to end',
      )
    const id = this.#registry.reserveDeviceId(account)
    const details = proto.ADVDeviceIdentity.encode({
      rawId: account.rawId,
      timestamp: Math.floor(Date.now() / 1000),
      keyIndex: id,
    }).finish()
    const iqId = this.#iqId()
    return new Promise((resolve, reject) => {
      const late = new AdminError(
        504,
        'client_silent',
        'the client did not answer pair-success in time',
        'look at the log of the client',
      )
      const timer = setTimeout(() => pairing.sign?.reject(late), SIGN_TIMEOUT_MS)
      const settle = (done) => (value) => {
        clearTimeout(timer)
        pairing.sign = null
        done(value)
      }
      pairing.sign = { iqId, id, account, details, resolve: settle(resolve), reject: settle(reject) }
      connection.send(pairSuccess(iqId, account, id, sealIdentity(account, details, pairing.identity, advSecret)))
    })
  }

  /** The client's answer to pair-success; false where the iq answers something else. */
  async onResult(connection, iq) {
    const sign = connection.pairing?.sign
    if (!sign || iq.attrs.id !== sign.iqId) return false
    const signed = childBytes(child(iq, 'pair-device-sign'), 'device-identity')
    if (!signed || !this.#isSigned(connection.pairing.identity, sign, signed)) {
      sign.reject(
        new AdminError(
          502,
          'bad_signature',
          'the client signed its device identity wrongly',
          'check the Baileys version of the client',
        ),
      )
      connection.close(streamError(401))
      return true
    }
    const device = this.#registry.addDevice(sign.account, {
      id: sign.id,
      noiseKey: connection.clientStatic,
      identity: connection.pairing.identity,
      bundle: connection.pairing.bundle,
      newlyLinked: true,
    })
    await this.#journal.flush()
    this.#stats.pairings++
    this.#logins.announceDevices(sign.account, 'add', device.id)
    connection.close(streamError(515))
    sign.resolve(device)
    return true
  }

  #isSigned(identity, { account, details }, signed) {
    const { deviceSignature } = proto.ADVSignedDeviceIdentity.decode(signed)
    const message = Buffer.concat([DEVICE_SIGNATURE_PREFIX, details, identity, account.identity.public])
    return Boolean(deviceSignature?.length) && Curve.verify(identity, message, deviceSignature)
  }

  #iqId() {
    return `sim-${this.#nextIq++}`
  }
}

const bundleOf = (data) => ({
  registration: Buffer.from(data.eRegid),
  identity: Buffer.from(data.eIdent),
  signedPreKey: {
    id: Buffer.from(data.eSkeyId),
    value: Buffer.from(data.eSkeyVal),
    signature: Buffer.from(data.eSkeySig),
  },
})

function sealIdentity(account, details, identity, advSecret) {
  const accountSignature = Curve.sign(
    account.identity.private,
    Buffer.concat([ACCOUNT_SIGNATURE_PREFIX, details, identity]),
  )
  const signed = proto.ADVSignedDeviceIdentity.encode({
    details,
    accountSignatureKey: account.identity.public,
    accountSignature,
  }).finish()
  return proto.ADVSignedDeviceIdentityHMAC.encode({ details: signed, hmac: hmacSign(signed, advSecret) }).finish()
}

const pairSuccess = (iqId, account, id, identity) => ({
  tag: 'iq',
  attrs: { id: iqId, type: 'set', from: SERVER, xmlns: 'md' },
  content: [
    {
      tag: 'pair-success',
      attrs: {},
      content: [
        { tag: 'device-identity', attrs: {}, content: identity },
        { tag: 'device', attrs: { jid: pnJid(account.phone, id), lid: lidJid(account.lid, id) } },
        // The name without which Baileys never announces itself available, and so never acknowledges as an active client.
        { tag: 'biz', attrs: { name: account.pushName } },
        { tag: 'platform', attrs: { name: 'android' } },
      ],
    },
  ],
})
