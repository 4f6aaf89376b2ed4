/** What the parts of the session host promise that no simulator can show. */

import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { test } from 'node:test'
import { proto, WAMessageStatus } from 'baileys'
import { attachmentOf } from '../lib/message-content.mjs'
import { ackEvent, inactiveReceiptEvents, messageEvent, receiptEvents, statusEvents } from '../lib/message-events.mjs'
import { SentMessages } from '../lib/sent-messages.mjs'
import { boundClosing, detach } from '../lib/socket-end.mjs'

const ME = { id: '79990000001:1@s.whatsapp.net', lid: '111:1@lid' }
const KEY = { id: 'A1', remoteJid: '222@lid', remoteJidAlt: '79990000002@s.whatsapp.net', fromMe: false }
const event = (message, more = {}) => messageEvent({ key: KEY, messageTimestamp: 7, message, ...more }, ME)

test('text and type are found in every kind of message', () => {
  const { Type } = proto.Message.ProtocolMessage
  const cases = [
    [{ conversation: 'a' }, 'text', 'a'],
    [{ extendedTextMessage: { text: 'b' } }, 'text', 'b'],
    [{ messageContextInfo: {}, imageMessage: { caption: 'c' } }, 'image', 'c'],
    [{ ephemeralMessage: { message: { videoMessage: { caption: 'd' } } } }, 'video', 'd'],
    [{ documentWithCaptionMessage: { message: { documentMessage: { caption: 'e' } } } }, 'document', 'e'],
    [{ reactionMessage: { text: '+' } }, 'reaction', '+'],
    [{ audioMessage: {} }, 'audio', undefined],
    [{ pollCreationMessageV3: { name: 'f?' } }, 'poll', 'f?'],
    [{ senderKeyDistributionMessage: {}, conversation: 'g' }, 'text', 'g'],
    [{ somethingNewMessage: {} }, 'unknown', undefined],
    [{ protocolMessage: { type: Type.REVOKE } }, 'revoke', undefined],
    [{ protocolMessage: { type: Type.MESSAGE_EDIT, editedMessage: { conversation: 'h' } } }, 'edit', 'h'],
  ]
  for (const [content, type, text] of cases) {
    const { message } = event(content)
    assert.deepEqual([message.type, message.text], [type, text], JSON.stringify(content))
  }
})

test('what is no message yields no event, and what cannot be decrypted says so', () => {
  const { APP_STATE_SYNC_KEY_SHARE } = proto.Message.ProtocolMessage.Type
  const silent = [null, undefined, {}, { senderKeyDistributionMessage: {} }, { messageContextInfo: {} }]
  for (const content of silent) assert.equal(event(content), null)
  assert.equal(event({ protocolMessage: { type: APP_STATE_SYNC_KEY_SHARE } }), null)
  const ciphertext = { messageStubType: proto.WebMessageInfo.StubType.CIPHERTEXT }
  assert.deepEqual(event(null, ciphertext), { kind: 'undecryptable', message_id: 'A1', chat: '222@lid' })
})

test('sender and liveness are told for chats, groups and own other devices', () => {
  assert.deepEqual(event({ conversation: 'x' }, { pushName: 'Anna' }).message, {
    id: 'A1',
    chat: '222@lid',
    chat_alt: '79990000002@s.whatsapp.net',
    sender: '222@lid',
    sender_alt: '79990000002@s.whatsapp.net',
    from_me: false,
    timestamp_s: 7,
    push_name: 'Anna',
    type: 'text',
    text: 'x',
    live: true,
  })
  const group = { id: 'A2', remoteJid: '9@g.us', participant: '333@lid', participantAlt: '79990000003@s.whatsapp.net' }
  const inGroup = event({ conversation: 'x' }, { key: group }).message
  assert.deepEqual([inGroup.chat, inGroup.sender, inGroup.sender_alt], ['9@g.us', '333@lid', group.participantAlt])
  const own = event({ conversation: 'x' }, { key: { ...KEY, fromMe: true } }).message
  assert.deepEqual([own.from_me, own.live, own.sender], [true, false, ME.id])
})

test('receipts are told for own messages only', () => {
  const mine = { ...KEY, fromMe: true }
  const update = (status, key = mine) => statusEvents([{ key, update: { status } }]).map((e) => e.status)
  const { ERROR, PENDING, SERVER_ACK, DELIVERY_ACK, READ, PLAYED } = WAMessageStatus
  const told = [ERROR, PENDING, SERVER_ACK, DELIVERY_ACK, READ, PLAYED].flatMap((status) => update(status))
  assert.deepEqual(told, ['failed', 'sent', 'delivered', 'read', 'played'])
  assert.deepEqual(update(READ, KEY), [])
  assert.equal(receiptEvents([{ key: mine, receipt: { readTimestamp: 1 } }])[0].status, 'read')
  assert.equal(receiptEvents([{ key: mine, receipt: { receiptTimestamp: 1 } }])[0].status, 'delivered')
  assert.equal(ackEvent({ attrs: { id: 'A1', from: 'x@lid', error: '479' } }), null)
  const list = { tag: 'list', content: [{ attrs: { id: 'A2' } }] }
  const inactive = inactiveReceiptEvents({ attrs: { id: 'A1', from: 'x@lid' }, content: [list] })
  assert.deepEqual(
    inactive.map((e) => [e.message_id, e.status]),
    [
      ['A1', 'delivered'],
      ['A2', 'delivered'],
    ],
  )
})

test('the last messages sent are kept, older ones are not', () => {
  const sent = new SentMessages(3)
  for (const id of ['a', 'b', 'c', 'a', 'd']) sent.put(id, { conversation: id })
  assert.deepEqual(
    ['a', 'b', 'c', 'd'].map((id) => sent.has(id)),
    [true, false, true, true],
  )
  assert.equal(sent.get('b'), undefined)
})

test('a server that never closes its side is cut off, and a late error of its connection harms nobody', async () => {
  const ws = new EventEmitter()
  ws.close = () => new Promise((resolve) => ws.once('cut', resolve))
  ws.socket = { terminate: () => ws.emit('cut') }
  boundClosing({ ws })
  const started = performance.now()
  await ws.close()
  assert.ok(performance.now() - started < 2_000)
  detach({ ws, ev: new EventEmitter() })
  ws.emit('error', new Error('late'))
})

test('what a message points at is told', () => {
  const { Type } = proto.Message.ProtocolMessage
  const contextInfo = { stanzaId: 'B1', participant: 'x@lid', quotedMessage: {}, mentionedJid: ['333@lid'] }
  const key = { id: 'B2', remoteJid: '222@lid' }
  const cases = [
    [{ extendedTextMessage: { text: 'a', contextInfo } }, { reply_to: 'B1', mentions: ['333@lid'] }],
    [{ imageMessage: { caption: 'b', contextInfo: { stanzaId: 'B1' } } }, { reply_to: 'B1' }],
    [{ reactionMessage: { text: '+', key } }, { target_id: 'B2' }],
    [{ protocolMessage: { type: Type.REVOKE, key } }, { target_id: 'B2' }],
    [{ protocolMessage: { type: Type.MESSAGE_EDIT, key, editedMessage: { conversation: 'c' } } }, { target_id: 'B2' }],
    [{ conversation: 'd' }, {}],
  ]
  for (const [content, expected] of cases) {
    const { reply_to, mentions, target_id } = JSON.parse(JSON.stringify(event(content).message))
    assert.deepEqual(JSON.parse(JSON.stringify({ reply_to, mentions, target_id })), expected)
  }
})

test('what a sender says of a file is told, and what opens it is kept apart', () => {
  const mediaKey = Buffer.alloc(32, 1)
  const image = {
    mimetype: 'image/png',
    fileLength: 7,
    width: 3,
    mediaKey,
    fileSha256: Buffer.from([255]),
    directPath: '/a',
  }
  const { message } = event({ imageMessage: { ...image, caption: 'c', jpegThumbnail: Buffer.alloc(9_000) } })
  assert.deepEqual(JSON.parse(JSON.stringify(message.media)), {
    mime_type: 'image/png',
    size_bytes: 7,
    width: 3,
    sha256: 'ff',
  })
  assert.equal(event({ audioMessage: { ...image, ptt: true } }).message.type, 'voice')
  assert.equal('media' in event({ imageMessage: { caption: 'lost' } }).message, false)
  const attachment = attachmentOf({ viewOnceMessage: { message: { imageMessage: image } } })
  assert.ok(Buffer.from(attachment, 'base64').length < 100)
  assert.equal(proto.Message.decode(Buffer.from(attachment, 'base64')).imageMessage.directPath, '/a')
  assert.equal(attachmentOf({ conversation: 'x' }), undefined)
})
