/**
 * Owns turning a sealed file of a content into what Baileys uploads.
 *
 * Invariant: of what is sent, nothing lies on disk unencrypted, and no other program is run for it. Baileys writes a
 * plain copy for thumbnails and durations, and calls ffmpeg for videos: both are spared by giving it the answers.
 */

import { extractImageThumb, getAudioDuration, proto } from 'baileys'
import { settledWithin } from './deadline.mjs'
import { readSealed, readSealedWhole } from './sealed-file.mjs'

const KINDS = ['image', 'video', 'audio', 'document', 'sticker']
const LOOK_TIMEOUT_MS = 5_000

/** What was uploaded for `content` by an earlier try, as a message that can be sent as it is; undefined where nothing was. */
export function uploadedBefore({ uploaded }) {
  return typeof uploaded === 'string' ? proto.Message.decode(Buffer.from(uploaded, 'base64')) : undefined
}

/** The kind of the sealed file in `content`, or undefined. */
export function sealedKind(content) {
  return KINDS.find((kind) => content[kind]?.sealed)
}

/** `content` with its sealed file, if it has one, as Baileys takes it. */
export async function withMedia(content) {
  const kind = sealedKind(content)
  if (!kind) return content
  const { sealed } = content[kind]
  if (kind === 'image') return { ...content, ...(await pictured(sealed)) }
  if (kind === 'audio') return { ...content, ...(await timed(sealed)) }
  const more = kind === 'video' ? { jpegThumbnail: null } : {}
  return { ...content, [kind]: { stream: readSealed(sealed) }, ...more }
}

/** A picture with its thumbnail and size; without them where it cannot be read as one. */
async function pictured(sealed) {
  const image = await readSealedWhole(sealed)
  const more = await looked(extractImageThumb(image))
  if (!more) return { image, jpegThumbnail: null }
  const { width, height } = more.original
  return { image, jpegThumbnail: more.buffer, width, height }
}

async function timed(sealed) {
  const audio = await readSealedWhole(sealed)
  const seconds = await looked(getAudioDuration(audio))
  return { audio, seconds: Math.round(seconds ?? 0) }
}

/** What looking at a file found out; undefined where it failed or took too long. */
async function looked(work) {
  let found
  const looking = work.then((result) => {
    found = result
  })
  await settledWithin(LOOK_TIMEOUT_MS, looking)
  return found
}
