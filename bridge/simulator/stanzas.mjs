/**
 * Owns: the words of the wire: reading children of a stanza, jids, and the few answers every module sends.
 * Invariant: a jid built here parses back to the same user and device.
 */
import { jidDecode } from 'baileys'

/** How Baileys writes and expects the server's own address. */
export const SERVER = '@s.whatsapp.net'
export const GROUP_SERVER = 'g.us'

/** An iq that the server answers with an error instead of a result. */
export class QueryError extends Error {
  constructor(code, text) {
    super(text)
    this.code = code
  }
}

export const children = (node, tag) =>
  Array.isArray(node?.content) ? node.content.filter((item) => item.tag === tag) : []

/** First child with the tag, or undefined. */
export const child = (node, tag) =>
  Array.isArray(node?.content) ? node.content.find((item) => item.tag === tag) : undefined

export const firstChild = (node) => (Array.isArray(node?.content) ? node.content[0] : undefined)

/** Bytes of a child's content, or undefined where the child or its bytes are missing. */
export function childBytes(node, tag) {
  const content = child(node, tag)?.content
  return content instanceof Uint8Array ? Buffer.from(content) : undefined
}

/** Text of a node: Baileys decodes short strings as text and long ones as bytes. */
export function textOf(node) {
  const content = node?.content
  if (typeof content === 'string') return content
  return content instanceof Uint8Array ? Buffer.from(content).toString('utf8') : ''
}

export const nowS = () => String(Math.floor(Date.now() / 1000))

/** { user, server, device } with device 0 where the jid names none; null for what is not a jid. */
export function parseJid(jid) {
  const decoded = jidDecode(jid)
  if (!decoded?.server) return null
  return {
    user: decoded.user,
    server: decoded.server,
    device: decoded.device ?? 0,
    namesDevice: decoded.device !== undefined,
  }
}

const withDevice = (user, device, server) => `${user}${device ? `:${device}` : ''}@${server}`
export const pnJid = (phone, device = 0) => withDevice(phone, device, 's.whatsapp.net')
export const lidJid = (lid, device = 0) => withDevice(lid, device, 'lid')
export const isGroupJid = (jid) => typeof jid === 'string' && jid.endsWith('@g.us')

export const iqResult = (iq, content) => ({
  tag: 'iq',
  attrs: { id: iq.attrs.id, type: 'result', from: iq.attrs.to ?? SERVER },
  content,
})

export const iqError = (iq, code, text) => ({
  tag: 'iq',
  attrs: { id: iq.attrs.id, type: 'error', from: iq.attrs.to ?? SERVER },
  content: [{ tag: 'error', attrs: { code: String(code), text } }],
})

/** The stream error that Baileys turns into the given disconnect code. */
export function streamError(code) {
  const conflicts = { 401: 'device_removed', 440: 'replaced' }
  const content = conflicts[code] ? [{ tag: 'conflict', attrs: { type: conflicts[code] } }] : undefined
  return { tag: 'stream:error', attrs: { code: String(code) }, content }
}

export const loginFailure = (reason) => ({
  tag: 'failure',
  attrs: { reason: String(reason), location: 'simulator' },
})
