/**
 * Owns: the answer to every iq of a logged-in client.
 * Invariant: every iq gets exactly one answer; what is not simulated gets an empty result and is counted.
 */
import { MEDIA_AUTH } from './media-server.mjs'
import { child, children, firstChild, iqError, iqResult, QueryError, SERVER } from './stanzas.mjs'

const PRIVACY_CATEGORIES = ['readreceipts', 'profile', 'status', 'online', 'last', 'groupadd', 'calladd', 'messages']
const EMPTY = []

const staticAnswers = {
  'w:p': () => EMPTY,
  passive: () => EMPTY,
  abt: () => [{ tag: 'props', attrs: { protocol: '1', refresh: '86400' } }],
  blocklist: () => [{ tag: 'list', attrs: {} }],
  privacy: (_connection, iq) => (iq.attrs.type === 'get' ? [privacySettings()] : EMPTY),
  disappearing_mode: () => EMPTY,
  status: () => EMPTY,
  'urn:xmpp:whatsapp:dirty': () => EMPTY,
  'w:stats': () => EMPTY,
  'w:sync:app:state': (_connection, iq) => [appStateUnchanged(iq)],
  'w:profile:picture': (_connection, iq) => {
    if (iq.attrs.type === 'get') throw new QueryError(404, 'item-not-found')
    return [{ tag: 'picture', attrs: { id: '1' } }]
  },
}

const mediaConnection = ({ host }) => ({
  tag: 'media_conn',
  attrs: { auth: MEDIA_AUTH, ttl: '300', max_buckets: '0' },
  content: host ? [{ tag: 'host', attrs: { hostname: host, maxContentLengthBytes: '115343360' } }] : [],
})

const privacySettings = () => ({
  tag: 'privacy',
  attrs: {},
  content: PRIVACY_CATEGORIES.map((name) => ({ tag: 'category', attrs: { name, value: 'all' } })),
})

/** Every collection stands at the version the client has: nothing to sync. A patch raises it by one. */
function appStateUnchanged(iq) {
  const collections = children(child(iq, 'sync'), 'collection').map(({ attrs, content }) => ({
    tag: 'collection',
    attrs: { name: attrs.name, type: 'result', version: String(Number(attrs.version) + (content?.length ? 1 : 0)) },
  }))
  return { tag: 'sync', attrs: {}, content: collections }
}

export class Queries {
  #handlers
  #logins
  #registry
  #pairingCodes
  #onActive
  #stats

  constructor({ bundles, directory, groups, logins, media, registry, pairingCodes, onActive, stats }) {
    this.#handlers = {
      ...staticAnswers,
      encrypt: (connection, iq) => bundles.answer(connection, iq),
      usync: (connection, iq) => directory.answer(connection, iq),
      'w:m': () => [mediaConnection(media)],
      'w:g2': (connection, iq) => groups.answer(connection, iq),
    }
    Object.assign(this.#handlers, { md: (connection, iq) => this.#linking(connection, iq) })
    this.#logins = logins
    this.#registry = registry
    this.#pairingCodes = pairingCodes
    this.#onActive = onActive
    this.#stats = stats
  }

  answer(connection, iq) {
    try {
      const content = this.#handlers[iq.attrs.xmlns]?.(connection, iq)
      if (content === null || !this.#handlers[iq.attrs.xmlns]) this.#countUnknown(iq)
      connection.send(iqResult(iq, content ?? undefined))
    } catch (error) {
      if (!(error instanceof QueryError)) throw error
      connection.send(iqError(iq, error.code, error.message))
    }
    if (iq.attrs.xmlns === 'passive' && child(iq, 'active')) this.#onActive(connection)
  }

  /** A client that is not logged in may only ping and ask for a pairing code. */
  async answerUnpaired(connection, iq) {
    const isLinking = iq.attrs.xmlns === 'md' && child(iq, 'link_code_companion_reg')
    if (!isLinking) return connection.send(iqResult(iq))
    return this.#pairingCodes.answer(connection, iq)
  }

  #linking(connection, iq) {
    const request = firstChild(iq)
    if (request?.tag !== 'remove-companion-device') return null
    const device = this.#registry.deviceOf(request.attrs.jid)
    if (device !== connection.device) throw new QueryError(403, 'forbidden')
    // After the answer has left: unlinking closes the connection.
    setImmediate(() => connection.account.devices[device.id] && this.#logins.unlink(connection.account, device))
    return EMPTY
  }

  #countUnknown(iq) {
    const tag = firstChild(iq)?.tag
    const name = this.#handlers[iq.attrs.xmlns] ? `${iq.attrs.xmlns}/${tag}` : (iq.attrs.xmlns ?? SERVER)
    this.#stats.unknown_iqs[name] = (this.#stats.unknown_iqs[name] ?? 0) + 1
  }
}
