/**
 * Owns the key stores that a Node program can have, by name, all behind Baileys' `get` and `set`.
 *
 * Invariant: each is opened empty, and a `set` resolves when that store calls it stored.
 */

import { join } from 'node:path'
import { useStandfastAuthState } from '../bridge/auth-state.mjs'
import { encodeValue, reviveBuffers } from '../bridge/lib/values.mjs'
import { connectWire } from '../bridge/lib/wire.mjs'
import { initAuthCreds, useMultiFileAuthState } from '../bridge/node_modules/baileys/lib/index.js'

export const stores = {
  /** Baileys' own: a file for each key, and no fsync. */
  files: async ({ folder }, company) => (await useMultiFileAuthState(join(folder, company))).state.keys,
  /** A gateway, asked for every operation. */
  gateway: ({ socket }, company) => overWire(socket, company),
  /** A gateway behind Standfast's coherent copy: what a bot gets. */
  standfast: async ({ socket }, company) => {
    const auth = await useStandfastAuthState({ company, socket, pair: true })
    await auth.saveCreds()
    return auth.state.keys
  },
}

async function overWire(socketPath, company) {
  const wire = await connectWire({ socketPath, role: 'auth-state', client: 'benchmark' })
  await wire.request('auth.open', { company, pair: true })
  await wire.requestJson('creds.create', `{"company":"${company}","creds":${encodeValue(initAuthCreds())}}`)
  return {
    get: async (type, ids) => reviveBuffers(await wire.request('keys.get', { company, type, ids })),
    set: (data) => wire.requestJson('keys.set', `{"company":"${company}","data":${encodeValue(data)}}`),
  }
}
