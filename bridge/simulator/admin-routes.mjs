/**
 * Owns: the paths of the admin API and the checks of what they are given.
 * Invariant: a handler sees only values that were checked.
 */
import { createRequire } from 'node:module'
import { encodeBigEndian } from 'baileys'
import { AdminError } from './admin-errors.mjs'
import { isGroupJid, lidJid, pnJid } from './stanzas.mjs'

const { version: VERSION } = createRequire(import.meta.url)('../package.json')
const PHONE = /^[1-9]\d{6,14}$/
const MAX_TEXT_CHARS = 16_384
const BEHAVIOURS = ['echo', 'talk', 'silent']
const MIN_INTERVAL_MS = 20

const bad = (message, nextStep) => new AdminError(400, 'bad_request', message, nextStep)

function phoneNumber(value, name = 'phone') {
  if (typeof value === 'string' && PHONE.test(value)) return value
  throw bad(`${name} is not a phone number`, 'give the number as digits with country code, for example "79990000001"')
}

function text(value, name, maxChars = MAX_TEXT_CHARS) {
  if (typeof value === 'string' && value.length && value.length <= maxChars) return value
  throw bad(`${name} must be a text of 1 to ${maxChars} characters`, `add "${name}" to the request`)
}

function address(value, name) {
  return isGroupJid(value) ? value : phoneNumber(value, name)
}

function wholeNumber(value, name, min) {
  if (Number.isInteger(value) && value >= min) return value
  throw bad(`${name} must be a whole number of at least ${min}`, `correct "${name}"`)
}

function bytes(value, name, length) {
  const given = typeof value === 'string' ? Buffer.from(value, 'base64') : Buffer.alloc(0)
  if (given.length === length) return given
  throw bad(`${name} must be ${length} bytes in base64`, `correct "${name}"`)
}

function accountOf({ registry }, phone) {
  const account = registry.account(phoneNumber(phone))
  if (account) return account
  throw new AdminError(
    404,
    'unknown_phone',
    'there is no account with this phone',
    'create it with POST /phones, or pair a client with it',
  )
}

const deviceView = ({ logins, queues }, account, device) => ({
  device: device.id,
  jid: pnJid(account.phone, device.id),
  lid: lidJid(account.lid, device.id),
  online: logins.isOnline(device),
  queued: queues.length(device),
  paired_at: new Date(device.pairedAt).toISOString(),
})

const phoneView = (rooms, account) => ({
  phone: account.phone,
  jid: pnJid(account.phone),
  lid: lidJid(account.lid),
  devices: Object.values(account.devices).map((device) => deviceView(rooms, account, device)),
})

const pairedView = (device) => ({ phone: device.phone, device: device.id, jid: pnJid(device.phone, device.id) })

function contactSettings(body) {
  const settings = { phone: phoneNumber(body.phone), behaviour: body.behaviour ?? 'echo' }
  if (!BEHAVIOURS.includes(settings.behaviour)) throw bad('behaviour is unknown', `use one of ${BEHAVIOURS.join(', ')}`)
  if (settings.behaviour !== 'talk') return settings
  return {
    ...settings,
    peer: address(body.peer, 'peer'),
    interval_ms: wholeNumber(body.interval_ms ?? 1_000, 'interval_ms', MIN_INTERVAL_MS),
  }
}

const contactView = (contact) => ({ ...contact.settings, state: contact.state })

function unlink(rooms, phone, id) {
  const account = accountOf(rooms, phone)
  const device = account.devices[wholeNumber(id, 'device', 1)]
  if (!device)
    throw new AdminError(
      404,
      'unknown_device',
      'the phone has no such linked device',
      'see GET /phones/{phone}/devices',
    )
  rooms.logins.unlink(account, device)
}

async function removeContact(rooms, phone) {
  await rooms.contacts.remove(phone)
  const account = rooms.registry.account(phone)
  for (const device of Object.values(account?.devices ?? {})) rooms.logins.unlink(account, device)
}

function createGroup({ registry, groups }, { subject, participants }) {
  const phones = phonesOf(registry, participants)
  return groups.create(text(subject, 'subject', 100), phones)
}

function addToGroup({ registry, groups }, jid, { participants }) {
  const group = groups.find(jid)
  if (!group) throw new AdminError(404, 'unknown_group', 'there is no such group', 'see GET /groups')
  groups.addMembers(group, phonesOf(registry, participants))
}

/** Phone numbers that have an account from now on. */
function phonesOf(registry, participants) {
  if (!Array.isArray(participants) || !participants.length)
    throw bad('participants must be a list of phones', 'name at least one phone')
  const phones = participants.map((phone) => phoneNumber(phone, 'participant'))
  for (const phone of phones) registry.ensureAccount(phone)
  return phones
}

function adoptDevice({ registry }, phone, { device, lid, noise_key, identity, registration_id, signed_pre_key }) {
  if (lid !== undefined && !/^\d{1,20}$/.test(lid)) throw bad('lid is no LID', 'give the digits before "@lid"')
  const bundle = {
    registration: encodeBigEndian(wholeNumber(registration_id, 'registration_id', 0)),
    identity: bytes(identity, 'identity', 32),
    signedPreKey: {
      id: encodeBigEndian(wholeNumber(signed_pre_key?.id, 'signed_pre_key.id', 0), 3),
      value: bytes(signed_pre_key?.value, 'signed_pre_key.value', 32),
      signature: bytes(signed_pre_key?.signature, 'signed_pre_key.signature', 64),
    },
  }
  const noiseKey = bytes(noise_key, 'noise_key', 32)
  const id = wholeNumber(device, 'device', 1)
  return registry.adoptDevice(phoneNumber(phone), lid, { id, noiseKey, identity: bundle.identity, bundle })
}

const status = ({ connections }) => ({
  version: VERSION,
  uptime_s: Math.round(process.uptime()),
  connections: connections().size,
  pid: process.pid,
})

const route = (method, path, handle) => ({ method, path: path.split('/').filter(Boolean), handle })

export const routes = [
  route('GET', '/status', (rooms) => ({ body: status(rooms) })),
  route('GET', '/stats', (rooms) => ({ body: rooms.stats })),
  route('GET', '/pairings', (rooms) => ({
    body: { clients: rooms.pairing.waitingClients(), codes: rooms.pairingCodes.pending() },
  })),
  route('POST', '/scan', async (rooms, { body }) => ({
    body: pairedView(await rooms.pairing.scan(text(body.qr, 'qr', 2_000), phoneNumber(body.phone))),
  })),
  route('POST', '/enter-code', async (rooms, { body }) => ({
    body: pairedView(await rooms.pairingCodes.enter(phoneNumber(body.phone), text(body.code, 'code', 20))),
  })),
  route('GET', '/phones', (rooms) => ({
    body: { phones: rooms.registry.accounts().map((account) => phoneView(rooms, account)) },
  })),
  route('POST', '/phones', (rooms, { body }) => ({
    status: 201,
    body: phoneView(rooms, rooms.registry.ensureAccount(phoneNumber(body.phone))),
  })),
  route('GET', '/phones/:phone/devices', (rooms, { params }) => ({
    body: { devices: phoneView(rooms, accountOf(rooms, params[0])).devices },
  })),
  route('POST', '/phones/:phone/devices', (rooms, { params, body }) => ({
    status: 201,
    body: pairedView(adoptDevice(rooms, params[0], body)),
  })),
  route('POST', '/phones/:phone/unlink', (rooms, { params, body }) => {
    unlink(rooms, params[0], body.device)
    return { body: { unlinked: true } }
  }),
  route('GET', '/contacts', (rooms) => ({ body: { contacts: rooms.contacts.list() } })),
  route('POST', '/contacts', async (rooms, { body }) => ({
    status: 201,
    body: contactView(await rooms.contacts.add(contactSettings(body))),
  })),
  route('DELETE', '/contacts/:phone', async (rooms, { params }) => {
    await removeContact(rooms, params[0])
    return { body: { deleted: true } }
  }),
  route('GET', '/contacts/:phone/messages', (rooms, { params, query }) => {
    const { messages } = rooms.contacts.get(params[0])
    const after = wholeNumber(Number(query.get('after') ?? 0), 'after', 0)
    return { body: { messages: messages.after(after), undecryptable: messages.undecryptable } }
  }),
  route('POST', '/contacts/:phone/send', async (rooms, { params, body }) => {
    const contact = rooms.contacts.get(params[0])
    return { body: { id: await contact.send(address(body.to, 'to'), text(body.text, 'text')) } }
  }),
  route('POST', '/contacts/:phone/lose-sessions', (rooms, { params }) => {
    rooms.contacts.get(params[0]).loseSessions()
    return { body: { lost: true } }
  }),
  route('DELETE', '/media', async (rooms) => ({ body: { deleted: await rooms.media.forget() } })),
  route('GET', '/groups', (rooms) => ({
    body: {
      groups: rooms.groups
        .all()
        .map(({ jid, subject, members }) => ({ jid, subject, participants: members.map((member) => member.phone) })),
    },
  })),
  route('POST', '/groups', (rooms, { body }) => ({ status: 201, body: { jid: createGroup(rooms, body).jid } })),
  route('POST', '/groups/:jid/participants', (rooms, { params, body }) => {
    addToGroup(rooms, params[0], body)
    return { status: 201, body: { added: true } }
  }),
  route('GET', '/faults', (rooms) => ({ body: { faults: rooms.faults.list() } })),
  route('POST', '/faults', (rooms, { body }) => {
    if (body.phone !== undefined) phoneNumber(body.phone)
    return { status: 201, body: rooms.faults.add(body) }
  }),
  route('DELETE', '/faults', (rooms) => {
    rooms.faults.clear()
    return { body: { deleted: true } }
  }),
  route('DELETE', '/faults/:id', (rooms, { params }) => {
    if (!rooms.faults.remove(params[0]))
      throw new AdminError(404, 'unknown_fault', 'there is no such fault in force', 'see GET /faults')
    return { body: { deleted: true } }
  }),
]
