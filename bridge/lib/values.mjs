/**
 * Owns the JSON form of auth-state values: Baileys' BufferJSON, written fast and read tolerantly.
 *
 * Invariant: bytes that go in (Buffer or plain Uint8Array) come out as a Buffer with the same bytes.
 * A reviver passed to JSON.parse is called for every leaf; walking the parsed tree once is several times faster.
 */

import { StandfastError } from './errors.mjs'

/** The JSON text of a value, with every byte array as `{"type":"Buffer","data":"<base64>"}`. */
export function encodeValue(value) {
  return JSON.stringify(plain(value))
}

/**
 * The same for a Signal session. libsignal's records hold base64 text and no bytes, so there is nothing to look for in
 * them; what it might hold one day would be written as JSON writes bytes, which `reviveBuffers` reads too.
 */
export function encodeSession(value) {
  return value.version === 'v1' && value._sessions ? JSON.stringify(value) : encodeValue(value)
}

/** Turns the Buffer forms inside a parsed JSON value into Buffers, in place; returns the value. */
export function reviveBuffers(value) {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) reviveSlot(value, i)
    return value
  }
  if (value.type === 'Buffer') return bufferOf(value)
  const keys = Object.keys(value)
  if (keys.length > 0 && keys[0] === '0' && isIndexedBytes(value, keys)) return Buffer.from(Object.values(value))
  for (const key of keys) reviveSlot(value, key)
  return value
}

function reviveSlot(holder, key) {
  const child = holder[key]
  if (typeof child !== 'object' || child === null) return
  const revived = reviveBuffers(child)
  if (revived !== child) holder[key] = revived
}

/** The value with bytes in their JSON form; the input is never changed. */
function plain(value) {
  if (typeof value !== 'object' || value === null) return value
  if (value instanceof Uint8Array) return { type: 'Buffer', data: base64Of(value) }
  if (Array.isArray(value)) return plainArray(value)
  if (typeof value.toJSON === 'function') return plain(value.toJSON())
  // A Buffer that went through plain JSON once keeps its meaning instead of being taken for a record.
  if (value.type === 'Buffer') return { type: 'Buffer', data: bufferOf(value).toString('base64') }
  return plainRecord(value)
}

/** Records without bytes (a Signal session is one) are returned as they are: copying them costs more than writing. */
function plainRecord(value) {
  let copy = value
  for (const key of Object.keys(value)) {
    const child = value[key]
    if (typeof child !== 'object' || child === null) continue
    const converted = plain(child)
    if (converted === child) continue
    if (copy === value) copy = { ...value }
    copy[key] = converted
  }
  return copy
}

function plainArray(value) {
  let copy = value
  for (let i = 0; i < value.length; i++) {
    const converted = plain(value[i])
    if (converted === value[i]) continue
    if (copy === value) copy = [...value]
    copy[i] = converted
  }
  return copy
}

function base64Of(bytes) {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
}

/** Accepts `data` or `value` as base64, as an array, as `{"0": 5, …}`, or as bytes. */
function bufferOf({ data, value }) {
  const content = data ?? value
  if (typeof content === 'string') return Buffer.from(content, 'base64')
  if (Array.isArray(content) || content instanceof Uint8Array) return Buffer.from(content)
  if (content && typeof content === 'object') return bufferOfNested(content)
  throw new StandfastError('auth_state_corrupt', 'a stored Buffer value has no readable content')
}

function bufferOfNested(content) {
  if (content.type === 'Buffer') return bufferOf(content)
  const keys = Object.keys(content)
  if (keys.length === 0 || isIndexedBytes(content, keys)) return Buffer.from(Object.values(content))
  throw new StandfastError('auth_state_corrupt', 'a stored Buffer value has no readable content')
}

/** True for the object that plain JSON.stringify makes of a Uint8Array: keys 0…n−1, values 0…255. */
function isIndexedBytes(value, keys) {
  return keys.every((key, index) => key === String(index) && isByte(value[key]))
}

function isByte(value) {
  return Number.isInteger(value) && value >= 0 && value <= 255
}
