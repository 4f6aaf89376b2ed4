/**
 * Owns: what the user's phone itself sends to a device it has just linked: the first history sync.
 * Invariant: it is sealed with the phone's own identity key, the one that signed the device's identity.
 */
import { randomBytes } from 'node:crypto'
import { deflateSync } from 'node:zlib'
import {
  DEFAULT_CONNECTION_CONFIG,
  encodeWAMessage,
  makeLibSignalRepository,
  parseAndInjectE2ESessions,
  proto,
} from './baileys-parts.mjs'
import { lidJid, nowS, pnJid } from './stanzas.mjs'

const HISTORY = proto.HistorySync.HistorySyncType.INITIAL_BOOTSTRAP

/** A message stanza with an empty history; Baileys waits 20 s for one after the first login before it is fully online. */
export async function historySyncStanza(registry, account, device) {
  const repository = phoneRepository(account)
  const jid = lidJid(account.lid, device.id)
  const user = { tag: 'user', attrs: { jid }, content: registry.takeBundle(account, device.id) }
  await parseAndInjectE2ESessions(
    { tag: 'iq', attrs: {}, content: [{ tag: 'list', attrs: {}, content: [user] }] },
    repository,
  )
  const { type, ciphertext } = await repository.encryptMessage({ jid, data: encodeWAMessage(historyMessage()) })
  return {
    tag: 'message',
    attrs: {
      id: randomBytes(10).toString('hex').toUpperCase(),
      type: 'protocol',
      category: 'peer',
      from: lidJid(account.lid),
      sender_pn: pnJid(account.phone),
      addressing_mode: 'lid',
      notify: account.pushName,
      t: nowS(),
    },
    content: [{ tag: 'enc', attrs: { v: '2', type }, content: ciphertext }],
  }
}

function historyMessage() {
  const history = proto.HistorySync.encode({ syncType: HISTORY, progress: 100, conversations: [] }).finish()
  return {
    protocolMessage: {
      type: proto.Message.ProtocolMessage.Type.HISTORY_SYNC_NOTIFICATION,
      historySyncNotification: {
        syncType: HISTORY,
        chunkOrder: 1,
        progress: 100,
        initialHistBootstrapInlinePayload: deflateSync(history),
      },
    },
  }
}

/** Signal sessions of the phone last for one message only: what devices send to it is never read. */
function phoneRepository({ identity, registrationId, signedPreKey }) {
  const values = new Map()
  const keys = {
    get: async (type, ids) =>
      Object.fromEntries(
        ids.filter((id) => values.has(`${type}/${id}`)).map((id) => [id, values.get(`${type}/${id}`)]),
      ),
    set: async (data) => {
      for (const type in data) for (const id in data[type]) values.set(`${type}/${id}`, data[type][id])
    },
    transaction: (work) => work(),
  }
  const creds = { signedIdentityKey: identity, registrationId, signedPreKey }
  return makeLibSignalRepository({ creds, keys }, DEFAULT_CONNECTION_CONFIG.logger, async () => [])
}
