/**
 * Owns the form of files that lie on disk between the service and this host: AES-256-GCM under a key of their own,
 * ciphertext first, then the tag.
 *
 * Invariant: a file that was changed is an error before anything of it has left this process.
 */

import { createCipheriv, createDecipheriv, createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { StandfastError } from './errors.mjs'

const CIPHER = 'aes-256-gcm'
const KEY_BYTES = 32
const TAG_BYTES = 16
const CHUNK_BYTES = 256 * 1024
/** A key is used once, so that a nonce cannot come twice under it. */
const NONCE = Buffer.alloc(12)

/** The plain bytes of the file `{path, key}`, `key` in hexadecimal, as a stream. */
export function readSealed(file) {
  return Readable.from(plainChunks(requireSealed(file)), { objectMode: false })
}

/** The same as one Buffer. */
export async function readSealedWhole(file) {
  const chunks = []
  for await (const chunk of plainChunks(requireSealed(file))) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** Writes what `stream` yields, at most `maxBytes`, durably; resolves to its size and SHA-256 (hexadecimal). */
export async function writeSealed(file, stream, maxBytes) {
  const { path, key } = requireSealed(file)
  const cipher = createCipheriv(CIPHER, key, NONCE)
  const hash = createHash('sha256')
  let size = 0
  const out = await open(path, 'wx', 0o600)
  try {
    for await (const chunk of stream) {
      size += chunk.length
      if (size > maxBytes) throw new StandfastError('usage', `the file is larger than ${maxBytes} bytes`)
      hash.update(chunk)
      await out.write(cipher.update(chunk))
    }
    await out.write(Buffer.concat([cipher.final(), cipher.getAuthTag()]))
    await out.sync()
  } finally {
    await out.close()
  }
  return { size_bytes: size, sha256: hash.digest('hex') }
}

async function* plainChunks({ path, key }) {
  const file = await open(path, 'r')
  try {
    const end = (await file.stat()).size - TAG_BYTES
    const decipher = createDecipheriv(CIPHER, key, NONCE)
    for (let at = 0; at < end; ) {
      const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, end - at))
      const { bytesRead } = await file.read(buffer, 0, buffer.length, at)
      if (bytesRead === 0) throw damaged()
      at += bytesRead
      yield decipher.update(buffer.subarray(0, bytesRead))
    }
    const tag = Buffer.alloc(TAG_BYTES)
    await file.read(tag, 0, TAG_BYTES, Math.max(0, end))
    finish(decipher, tag)
  } finally {
    await file.close()
  }
}

function finish(decipher, tag) {
  try {
    decipher.setAuthTag(tag)
    decipher.final()
  } catch {
    throw damaged()
  }
}

function requireSealed({ path, key }) {
  const bytes = Buffer.from(String(key), 'hex')
  if (typeof path === 'string' && path.startsWith('/') && bytes.length === KEY_BYTES) return { path, key: bytes }
  throw new StandfastError('usage', 'a sealed file needs an absolute path and a key of 32 bytes')
}

function damaged() {
  return new StandfastError('usage', 'the file does not match its seal: it was changed on disk')
}
