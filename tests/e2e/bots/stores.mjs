/**
 * Owns where a test bot keeps its auth state, by name.
 *
 * Invariant: each is what a bot in the wild would use; `memory` can be written down as the rows of a direct-SQL store.
 */

import { writeFileSync } from 'node:fs'
import { useStandfastAuthState } from '../../../bridge/auth-state.mjs'
import { BufferJSON, initAuthCreds, useMultiFileAuthState } from '../../../bridge/node_modules/baileys/lib/index.js'

export const stores = {
  files: ([directory]) => useMultiFileAuthState(directory),
  standfast: ([company, pair], onLost) => useStandfastAuthState({ company, pair: pair === 'pair', onLost }),
  memory: async () => inMemory(),
}

function inMemory() {
  const creds = initAuthCreds()
  const keys = {}
  return {
    state: {
      creds,
      keys: { get: async (type, ids) => pick(keys[type] ?? {}, ids), set: async (data) => put(keys, data) },
    },
    saveCreds: async () => {},
    dump: (path) => writeFileSync(path, JSON.stringify({ creds, keys }, BufferJSON.replacer)),
  }
}

function pick(values, ids) {
  const found = {}
  for (const id of ids) if (values[id]) found[id] = values[id]
  return found
}

function put(keys, data) {
  for (const [type, values] of Object.entries(data)) {
    keys[type] ??= {}
    for (const [id, value] of Object.entries(values)) {
      if (value) keys[type][id] = value
      else delete keys[type][id]
    }
  }
}
