/**
 * Owns what a message's content says: its type, its text, and which other messages and people it points at. Pure.
 *
 * Invariant: what is not for the reader of a chat (key shares, sync notices) has no content.
 */

import { normalizeMessageContent, proto } from 'baileys'

const TYPES = {
  conversation: 'text',
  extendedTextMessage: 'text',
  imageMessage: 'image',
  videoMessage: 'video',
  ptvMessage: 'video',
  audioMessage: 'audio',
  documentMessage: 'document',
  stickerMessage: 'sticker',
  lottieStickerMessage: 'sticker',
  locationMessage: 'location',
  liveLocationMessage: 'location',
  contactMessage: 'contact',
  contactsArrayMessage: 'contact',
  reactionMessage: 'reaction',
  encReactionMessage: 'reaction',
  pollCreationMessage: 'poll',
  pollCreationMessageV2: 'poll',
  pollCreationMessageV3: 'poll',
  pollUpdateMessage: 'poll_vote',
  buttonsResponseMessage: 'reply',
  listResponseMessage: 'reply',
  templateButtonReplyMessage: 'reply',
  interactiveResponseMessage: 'reply',
  eventMessage: 'event',
  groupInviteMessage: 'invite',
}
/** Travels beside or instead of content and means nothing to a reader of the chat. */
const UNSEEN = new Set([
  'messageContextInfo',
  'senderKeyDistributionMessage',
  'fastRatchetKeySenderKeyDistributionMessage',
])
const { REVOKE, MESSAGE_EDIT } = proto.Message.ProtocolMessage.Type

/** Type, text and pointers of a content; null where nothing is to be shown. */
export function contentOf(raw) {
  const content = normalizeMessageContent(raw)
  if (!content) return null
  if (content.protocolMessage) return protocolContent(content.protocolMessage)
  const field = Object.keys(content).find((name) => content[name] != null && !UNSEEN.has(name))
  if (!field) return null
  const part = content[field]
  const type = part.ptt ? 'voice' : (TYPES[field] ?? 'unknown')
  return { type, text: textOf(part), ...pointersOf(part), ...mediaOf(part) }
}

/** What is needed to download a content's file, as base64 of WhatsApp's protocol buffer; undefined where it has none. */
export function attachmentOf(raw) {
  const content = normalizeMessageContent(raw) ?? {}
  const field = Object.keys(content).find((name) => content[name]?.mediaKey?.length && content[name].directPath)
  if (!field) return undefined
  const part = { ...content[field], jpegThumbnail: undefined, contextInfo: undefined, caption: undefined }
  return Buffer.from(proto.Message.encode({ [field]: part }).finish()).toString('base64')
}

function protocolContent({ type, key, editedMessage }) {
  const target = { target_id: key?.id || undefined }
  if (type === REVOKE) return { type: 'revoke', ...target }
  if (type !== MESSAGE_EDIT) return null
  return { type: 'edit', text: contentOf(editedMessage)?.text, ...target }
}

function textOf(part) {
  if (typeof part === 'string') return part
  return part.text ?? part.caption ?? part.name ?? part.selectedDisplayText ?? part.title ?? undefined
}

/** What the sender says of a file; nothing where there is none that can be downloaded. */
function mediaOf(part) {
  if (!part.mediaKey?.length) return {}
  const { mimetype, fileLength, fileName, seconds, width, height, fileSha256 } = part
  const media = {
    mime_type: mimetype || undefined,
    size_bytes: fileLength == null ? undefined : Number(fileLength),
    file_name: fileName || undefined,
    seconds: seconds || undefined,
    width: width || undefined,
    height: height || undefined,
    sha256: fileSha256?.length ? Buffer.from(fileSha256).toString('hex') : undefined,
  }
  return { media }
}

/** What is replied to, who is mentioned, what is reacted to; only what there is. */
function pointersOf(part) {
  const { stanzaId, mentionedJid } = part.contextInfo ?? {}
  const pointers = {}
  if (stanzaId) pointers.reply_to = stanzaId
  if (mentionedJid?.length) pointers.mentions = [...mentionedJid]
  const target = part.key ?? part.targetMessageKey
  if (target?.id) pointers.target_id = target.id
  return pointers
}
