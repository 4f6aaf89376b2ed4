/**
 * Owns bringing in the file of a received message.
 *
 * Invariant: a file is fetched only from the hosts that WhatsApp's own server names, whatever its message says, and what
 * is handed over is what its sender encrypted: the hash that came with the message is checked.
 */

import { rm } from 'node:fs/promises'
import { downloadContentFromMessage } from 'baileys'
import { settledWithin, within } from './deadline.mjs'
import { asStandfastError, StandfastError, scrub } from './errors.mjs'
import { writeSealed } from './sealed-file.mjs'

const FETCH_TIMEOUT_MS = 90_000
const RENEW_TIMEOUT_MS = 20_000
const KINDS = {
  imageMessage: 'image',
  videoMessage: 'video',
  ptvMessage: 'video',
  audioMessage: 'audio',
  documentMessage: 'document',
  stickerMessage: 'sticker',
}
/** WhatsApp keeps files for some weeks; the phone has them for longer. */
const FORGOTTEN = new Set([403, 404, 410])

/** Resolves to `{size_bytes, sha256}` once the file of `entry` (Baileys' key and message) is in the sealed file `file`. */
export async function bringIn(sock, entry, file, maxBytes, renewTimeoutMs = RENEW_TIMEOUT_MS) {
  try {
    return await fetched(sock, entry.message, file, maxBytes)
  } catch (error) {
    if (!FORGOTTEN.has(error?.output?.statusCode)) throw failure(error)
  }
  try {
    // The phone is asked to upload it again; the message then names the new place.
    await within(renewTimeoutMs, sock.updateMediaMessage(entry), notRenewed)
    return await fetched(sock, entry.message, file, maxBytes)
  } catch (error) {
    throw failure(error)
  }
}

async function fetched(sock, message, file, maxBytes) {
  const [field, kind] = Object.entries(KINDS).find(([name]) => message[name]) ?? []
  const part = message[field]
  if (!part?.mediaKey?.length || !part.directPath?.startsWith('/'))
    throw new StandfastError('usage', 'the message has no file that can be downloaded')
  const { hosts } = await within(FETCH_TIMEOUT_MS, sock.refreshMediaConn(false), overdue)
  if (!hosts.length) throw failed('WhatsApp named no host to download from')
  const where = { mediaKey: part.mediaKey, directPath: part.directPath }
  const stream = await downloadContentFromMessage(where, kind, { host: hosts[0].hostname })
  const writing = writeSealed(file, stream, maxBytes)
  const inTime = await settledWithin(FETCH_TIMEOUT_MS, writing)
  if (!inTime) stream.destroy(overdue())
  return checked(await kept(writing, file), part, file)
}

/** What was written; a file that is not whole does not stay. */
async function kept(writing, file) {
  try {
    return await writing
  } catch (error) {
    if (error?.code !== 'EEXIST') await rm(file.path, { force: true })
    throw error
  }
}

async function checked(written, part, file) {
  const told = part.fileSha256?.length ? Buffer.from(part.fileSha256).toString('hex') : written.sha256
  if (told === written.sha256) return written
  await rm(file.path, { force: true })
  throw failed('the file is not the one that its sender encrypted')
}

function failure(error) {
  if (error instanceof StandfastError) return error
  if (error?.code && error?.syscall) return asStandfastError(error, 'journal_unwritable')
  return failed(`the file could not be downloaded: ${scrub(error?.message ?? error)}`)
}

function failed(message) {
  const nextStep = 'Try again later; where its sender or the phone has deleted it, ask for it anew.'
  return new StandfastError('target_failed', message, { nextStep, retryable: true })
}

function overdue() {
  return failed(`the file was not downloaded in ${FETCH_TIMEOUT_MS / 1000} s`)
}

function notRenewed() {
  return failed('WhatsApp no longer has the file, and the phone did not upload it again in time')
}
