/**
 * Makes auth state as Baileys does: creds of made-up companies that are paired, and pre-keys.
 * usage: node creds.mjs '{"file", "companies", "preKeys"}'; writes {"creds": [json, …], "preKeys": [json, …]}
 */

import { writeFileSync } from 'node:fs'
import { BufferJSON, Curve, initAuthCreds } from '../bridge/node_modules/baileys/lib/index.js'
import { options, tell } from './clients.mjs'

const FIRST_PHONE = 79_990_000_000
const PRE_KEYS = 813

const encoded = (value) => JSON.stringify(value, BufferJSON.replacer)

function creds(index) {
  const me = { id: `${FIRST_PHONE + index}:1@s.whatsapp.net`, lid: `${100_000_000_000_000 + index}:1@lid` }
  const uploaded = { nextPreKeyId: PRE_KEYS, firstUnuploadedPreKeyId: PRE_KEYS }
  return encoded({ ...initAuthCreds(), ...uploaded, me, account: { details: Buffer.alloc(512, 11) }, registered: true })
}

writeFileSync(
  options.file,
  JSON.stringify({
    creds: Array.from({ length: options.companies }, (_, index) => creds(index)),
    preKeys: Array.from({ length: options.preKeys }, () => encoded(Curve.generateKeyPair())),
  }),
  { mode: 0o600 },
)
tell({})
