/**
 * Owns: files in contacts' messages: which content carries one, and its download.
 * Invariant: what is told of a file was decrypted here, by the key that its message carried.
 */
import { createHash } from 'node:crypto'
import { downloadContentFromMessage } from 'baileys'

const FIELDS = {
  imageMessage: 'image',
  videoMessage: 'video',
  audioMessage: 'audio',
  documentMessage: 'document',
  stickerMessage: 'sticker',
}

/** `{kind, part}` of a content that carries a file, or null. */
export function mediaOf(message) {
  const content = message?.documentWithCaptionMessage?.message ?? message
  const field = content && Object.keys(FIELDS).find((name) => content[name])
  return field ? { kind: FIELDS[field], part: content[field] } : null
}

/** What the message says of its file. */
export function described({ kind, part }) {
  return {
    kind: kind === 'audio' && part.ptt ? 'voice' : kind,
    mime_type: part.mimetype,
    file_name: part.fileName || undefined,
    seconds: part.seconds || undefined,
    width: part.width || undefined,
    height: part.height || undefined,
    has_thumbnail: Boolean(part.jpegThumbnail?.length),
  }
}

/** Downloads and decrypts the file: its size and SHA-256 (hexadecimal). */
export async function downloaded({ kind, part }) {
  const hash = createHash('sha256')
  let size = 0
  for await (const chunk of await downloadContentFromMessage(part, kind)) {
    hash.update(chunk)
    size += chunk.length
  }
  return { size_bytes: size, sha256: hash.digest('hex') }
}
