/**
 * Owns asking WhatsApp which of a company's pre-keys it still hands out.
 *
 * Invariant: a list is given only where everything in the answer agrees: it is about this device and its signed
 * pre-key, the server counts as many, and its hash is that of the public keys stored here. Otherwise there is a reason.
 *
 * The answer is read as WhatsApp Web reads it at login (its module WAWebDigestKeyJob; the hash is SHA-1 over identity,
 * signed pre-key, its signature and the listed pre-keys in their order). That a pre-key leaves the list when it is
 * handed out is inferred: so the service waits for as long as a message may lie at the server before it believes it.
 */

import { createHash } from 'node:crypto'
import { getAllBinaryNodeChildren, getBinaryNodeChild, S_WHATSAPP_NET } from 'baileys'
import { within } from './deadline.mjs'
import { StandfastError } from './errors.mjs'

const ASK_TIMEOUT_MS = 12_000
// A contact that takes a pre-key between the two questions makes the numbers differ.
const TRIES = 3

/**
 * What the server lists, as key ids: { listed, first_unuploaded }, or { listed: null, reason }.
 * @param {{ query: (node: object, timeoutMs?: number) => Promise<object> }} sock
 * @param {{ get: (type: string, ids: string[]) => Promise<Record<string, object>> }} keys
 */
export async function listedPreKeys(sock, creds, keys) {
  // Read before the question: what is uploaded after it cannot be in the answer.
  const firstUnuploaded = creds.firstUnuploadedPreKeyId
  const asked = consistentList(sock, creds, keys)
  const answer = await within(ASK_TIMEOUT_MS, asked, overdue)
  return { first_unuploaded: firstUnuploaded, ...answer }
}

async function consistentList(sock, creds, keys) {
  let reason
  for (let tries = 0; tries < TRIES; tries++) {
    const digest = getBinaryNodeChild(await ask(sock, 'digest'), 'digest')
    const count = Number(getBinaryNodeChild(await ask(sock, 'count'), 'count')?.attrs.value)
    const list = getAllBinaryNodeChildren(getBinaryNodeChild(digest, 'list') ?? {})
    const listed = list.map(({ content }) => numberOf(content))
    reason = contradiction(digest, listed, count, creds) ?? (await hashMismatch(digest, listed, creds, keys))
    if (!reason) return { listed: listed.map(String), reason: null }
  }
  return { listed: null, reason }
}

function ask(sock, tag) {
  const attrs = { to: S_WHATSAPP_NET, type: 'get', xmlns: 'encrypt' }
  return sock.query({ tag: 'iq', attrs, content: [{ tag, attrs: {} }] }).catch((error) => {
    const status = error?.data ?? error?.output?.statusCode
    throw new StandfastError(
      'send_failed',
      `WhatsApp did not answer about pre-keys (status ${Number(status) || 'none'})`,
    )
  })
}

/** What in the answer is not about this device as it is, or null. */
function contradiction(digest, listed, count, creds) {
  if (!digest) return 'WhatsApp answered without a list'
  const { keyPair, signature, keyId } = creds.signedPreKey
  const signed = getBinaryNodeChild(digest, 'skey')
  if (numberOf(bytesOf(digest, 'registration')) !== creds.registrationId) return 'it is of another registration'
  if (!bytesOf(digest, 'identity').equals(creds.signedIdentityKey.public)) return 'it is of another identity'
  const isSigned =
    numberOf(bytesOf(signed, 'id')) === keyId &&
    bytesOf(signed, 'value').equals(keyPair.public) &&
    bytesOf(signed, 'signature').equals(signature)
  if (!isSigned) return 'it names another signed pre-key'
  if (listed.some((id) => !(id > 0)) || new Set(listed).size !== listed.length) return 'its list is malformed'
  if (listed.length !== count) return `it lists ${listed.length} pre-keys where WhatsApp counts ${count}`
  return null
}

async function hashMismatch(digest, listed, creds, keys) {
  const stored = await keys.get('pre-key', listed.map(String))
  const missing = listed.filter((id) => !stored[id]).length
  if (missing > 0) return `${missing} pre-keys that WhatsApp hands out are not stored here`
  const hash = createHash('sha1')
  for (const part of [creds.signedIdentityKey.public, creds.signedPreKey.keyPair.public, creds.signedPreKey.signature])
    hash.update(part)
  for (const id of listed) hash.update(stored[id].public)
  return hash.digest().equals(bytesOf(digest, 'hash')) ? null : 'its hash is not that of the keys stored here'
}

function bytesOf(node, tag) {
  const { content } = getBinaryNodeChild(node, tag) ?? {}
  return content instanceof Uint8Array ? Buffer.from(content) : Buffer.alloc(0)
}

function numberOf(bytes) {
  return bytes instanceof Uint8Array && bytes.length > 0 && bytes.length <= 4
    ? Buffer.from(bytes).readUIntBE(0, bytes.length)
    : Number.NaN
}

function overdue() {
  return new StandfastError('send_failed', `WhatsApp did not list its pre-keys in ${ASK_TIMEOUT_MS / 1000} s`)
}
