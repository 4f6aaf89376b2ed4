/**
 * Owns: pairing by code: the exchange companion_hello → code typed in the phone → companion_finish.
 * Invariant: the code itself is never known here until the user types it, and it is neither kept nor logged. A wrong
 * code shows only when the client's answer does not open; the code then stays pending.
 */
import { randomBytes } from 'node:crypto'
import { aesDecryptCTR, aesDecryptGCM, aesEncryptCTR, Curve, derivePairingCodeKey, hkdf } from 'baileys'
import { AdminError } from './admin-errors.mjs'
import { child, childBytes, iqError, iqResult, nowS, parseJid, QueryError, SERVER } from './stanzas.mjs'

const CODE_LIFETIME_MS = 180_000
const FINISH_TIMEOUT_MS = 10_000
const WRAPPED_KEY_BYTES = 80

export class PairingCodes {
  #registry
  #pairing
  #faults
  #log
  #pending = new Map()

  constructor({ registry, pairing, faults, log }) {
    this.#registry = registry
    this.#pairing = pairing
    this.#faults = faults
    this.#log = log
  }

  /** Codes that wait to be typed, without the codes. */
  pending() {
    return [...this.#pending.values()]
      .filter((code) => this.#isLive(code))
      .map(({ phone, since }) => ({ phone, since }))
  }

  end(connection) {
    for (const [phone, code] of this.#pending) {
      if (code.connection !== connection) continue
      this.#pending.delete(phone)
      code.attempt?.reject(
        new AdminError(
          409,
          'client_gone',
          'the client disconnected before it was paired',
          'let the client ask for a new code',
        ),
      )
    }
  }

  async answer(connection, iq) {
    const request = child(iq, 'link_code_companion_reg')
    const stages = { companion_hello: this.#hello, companion_finish: this.#finish }
    try {
      await (stages[request.attrs.stage] ?? this.#unknownStage).call(this, connection, iq, request)
    } catch (error) {
      if (!(error instanceof QueryError)) throw error
      connection.send(iqError(iq, error.code, error.message))
    }
  }

  /** The user types the code in the phone; resolves with the linked device, refuses with 4xx and stays pending if wrong. */
  async enter(phone, typed) {
    const code = this.#pending.get(phone)
    if (!code || !this.#isLive(code)) {
      throw new AdminError(
        404,
        'no_code_pending',
        'no client waits for a code for this phone',
        'let the client request a pairing code first',
      )
    }
    if (code.attempt)
      throw new AdminError(
        409,
        'already_entering',
        'a code is being checked for this phone',
        'wait for the first request to end',
      )
    const attempt = await this.#notify(code, typed.replace(/[\s-]/g, ''))
    try {
      const advSecret = await attempt.opened
      this.#pending.delete(phone)
      return await this.#pairing.link(code.connection, this.#registry.ensureAccount(phone), advSecret)
    } finally {
      code.attempt = null
    }
  }

  #hello(connection, iq, request) {
    const phone = parseJid(request.attrs.jid)?.user ?? ''
    const refusal = this.#faults.take('refuse-pairing-code', phone)
    if (refusal) throw new QueryError(refusal.code ?? 429, 'rate-overlimit')
    const wrapped = childBytes(request, 'link_code_pairing_wrapped_companion_ephemeral_pub')
    if (!/^\d{7,15}$/.test(phone) || wrapped?.length !== WRAPPED_KEY_BYTES || !connection.pairing)
      throw new QueryError(400, 'bad-request')
    const ref = randomBytes(16).toString('base64url')
    this.#pending.set(phone, { phone, connection, wrapped, ref, since: Date.now(), attempt: null })
    const content = [{ tag: 'link_code_pairing_ref', attrs: {}, content: Buffer.from(ref) }]
    connection.send(iqResult(iq, [{ tag: 'link_code_companion_reg', attrs: { stage: 'companion_hello' }, content }]))
    this.#log.info('a pairing code is pending')
  }

  /** Sends primary_hello: the phone's ephemeral key, wrapped with the typed code. */
  async #notify(code, typed) {
    const account = this.#registry.ensureAccount(code.phone)
    const ephemeral = Curve.generateKeyPair()
    code.attempt = { ephemeral, account }
    code.attempt.opened = new Promise((resolve, reject) => Object.assign(code.attempt, { resolve, reject }))
    code.attempt.opened.catch(() => {})
    const { attempt } = code
    attempt.timer = setTimeout(
      () =>
        attempt.reject(
          new AdminError(
            504,
            'client_silent',
            'the client did not answer the code in time',
            'look at the log of the client',
          ),
        ),
      FINISH_TIMEOUT_MS,
    )
    attempt.companionEphemeral = await unwrap(typed, code.wrapped)
    const content = [
      leaf('link_code_pairing_ref', Buffer.from(code.ref)),
      leaf('primary_identity_pub', account.identity.public),
      leaf('link_code_pairing_wrapped_primary_ephemeral_pub', await wrap(typed, ephemeral.public)),
    ]
    const attrs = { id: `code-${Date.now()}`, type: 'link_code_companion_reg', from: SERVER, t: nowS() }
    const reg = { tag: 'link_code_companion_reg', attrs: { stage: 'primary_hello' }, content }
    code.connection.send({ tag: 'notification', attrs, content: [reg] })
    return attempt
  }

  #finish(connection, iq, request) {
    const code = [...this.#pending.values()].find((pending) => pending.connection === connection)
    const sealed = childBytes(request, 'link_code_pairing_wrapped_key_bundle')
    if (!code?.attempt || !sealed) throw new QueryError(400, 'bad-request')
    clearTimeout(code.attempt.timer)
    const advSecret = openBundle(code.attempt, sealed, connection.pairing.identity)
    if (!advSecret) {
      code.attempt.reject(
        new AdminError(
          422,
          'wrong_code',
          'the code is not the one the client shows',
          'type the code again; it is still pending',
        ),
      )
      throw new QueryError(401, 'not-authorized')
    }
    connection.send(iqResult(iq))
    code.attempt.resolve(advSecret)
  }

  #unknownStage() {
    throw new QueryError(400, 'bad-request')
  }

  #isLive(code) {
    return code.connection.open && Date.now() - code.since < CODE_LIFETIME_MS
  }
}

const leaf = (tag, content) => ({ tag, attrs: {}, content })

async function wrap(code, publicKey) {
  const salt = randomBytes(32)
  const iv = randomBytes(16)
  return Buffer.concat([salt, iv, aesEncryptCTR(publicKey, await derivePairingCodeKey(code, salt), iv)])
}

async function unwrap(code, wrapped) {
  const key = await derivePairingCodeKey(code, wrapped.subarray(0, 32))
  return aesDecryptCTR(wrapped.subarray(48, 80), key, wrapped.subarray(32, 48))
}

/** The ADV secret from the client's key bundle, or null where it does not open: the typed code was wrong. */
function openBundle({ ephemeral, account, companionEphemeral }, sealed, identity) {
  const shared = Curve.sharedKey(ephemeral.private, companionEphemeral)
  const key = hkdf(shared, 32, { salt: sealed.subarray(0, 32), info: 'link_code_pairing_key_bundle_encryption_key' })
  let bundle
  try {
    bundle = aesDecryptGCM(sealed.subarray(44), key, sealed.subarray(32, 44), Buffer.alloc(0))
  } catch {
    return null
  }
  const [companion, primary, random] = [bundle.subarray(0, 32), bundle.subarray(32, 64), bundle.subarray(64, 96)]
  if (!companion.equals(identity) || !primary.equals(account.identity.public)) return null
  const secret = Buffer.concat([shared, Curve.sharedKey(account.identity.private, companion), random])
  return Buffer.from(hkdf(secret, 32, { info: 'adv_secret' }))
}
