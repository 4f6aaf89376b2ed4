/** What bringing in a received file promises where WhatsApp, or somebody else, does not keep to it. */

import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { encryptedStream } from 'baileys'
import { bringIn } from '../lib/media-in.mjs'
import { readSealedWhole } from '../lib/sealed-file.mjs'

const KEY = { id: 'A1', remoteJid: '1@lid', fromMe: false }

/** A server of encrypted files at which `fetch` ends up, whatever host is asked; `asked` are the URLs. */
async function world(t) {
  const directory = await mkdtemp(join(tmpdir(), 'media-'))
  const files = new Map()
  const server = createServer((request, response) => {
    const body = files.get(request.url)
    response.writeHead(body ? 200 : 410).end(body)
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  const asked = []
  const { fetch } = globalThis
  globalThis.fetch = (url, options) => {
    asked.push(url)
    return fetch(`http://127.0.0.1:${server.address().port}${new URL(url).pathname}`, options)
  }
  t.after(async () => {
    globalThis.fetch = fetch
    await new Promise((resolve) => server.close(resolve))
    await rm(directory, { recursive: true, force: true })
  })
  return { directory, files, asked, file: { path: join(directory, 'file'), key: randomBytes(32).toString('hex') } }
}

async function uploaded(files, body, directPath) {
  const made = await encryptedStream(body, 'image')
  files.set(directPath, await readFile(made.encFilePath))
  await rm(made.encFilePath)
  const { mediaKey, fileSha256 } = made
  return { imageMessage: { mediaKey, fileSha256, directPath, url: `https://evil.example${directPath}` } }
}

const sock = (more) => ({
  refreshMediaConn: async () => ({ hosts: [{ hostname: 'media.whatsapp.example' }] }),
  ...more,
})

test('a file is fetched from the host that the server named, not from where its message points', async (t) => {
  const { files, asked, file } = await world(t)
  const body = randomBytes(300_000)
  const message = await uploaded(files, body, '/o1/a')
  const brought = await bringIn(sock(), { key: KEY, message }, file, 1_000_000)
  assert.deepEqual(asked, ['https://media.whatsapp.example/o1/a'])
  assert.deepEqual(brought, { size_bytes: 300_000, sha256: createHash('sha256').update(body).digest('hex') })
  assert.ok((await readSealedWhole(file)).equals(body))
})

test('a forgotten file is asked of the phone, and fetched from its new place', async (t) => {
  const { files, file } = await world(t)
  const body = randomBytes(1_000)
  const message = await uploaded(files, body, '/o1/new')
  message.imageMessage.directPath = '/o1/old'
  const updateMediaMessage = async (entry) => {
    assert.deepEqual(entry.key, KEY)
    entry.message.imageMessage.directPath = '/o1/new'
  }
  await bringIn(sock({ updateMediaMessage }), { key: KEY, message }, file, 10_000)
  assert.ok((await readSealedWhole(file)).equals(body))
})

test('a phone that does not answer, a foreign file and one that is too large leave nothing behind', async (t) => {
  const { files, file } = await world(t)
  const message = await uploaded(files, randomBytes(1_000), '/o1/a')
  const failed = { code: 'target_failed', retryable: true }
  await assert.rejects(bringIn(sock(), { key: KEY, message }, file, 999), { code: 'usage' })
  const foreign = { imageMessage: { ...message.imageMessage, fileSha256: randomBytes(32) } }
  await assert.rejects(bringIn(sock(), { key: KEY, message: foreign }, file, 10_000), failed)
  const gone = { imageMessage: { ...message.imageMessage, directPath: '/o1/gone' } }
  const silent = sock({ updateMediaMessage: () => new Promise(() => {}) })
  await assert.rejects(bringIn(silent, { key: KEY, message: gone }, file, 10_000, 50), failed)
  const nowhere = { imageMessage: { ...message.imageMessage, directPath: 'evil.example/a' } }
  await assert.rejects(bringIn(sock(), { key: KEY, message: nowhere }, file, 10_000), { code: 'usage' })
  await assert.rejects(bringIn(sock(), { key: KEY, message: { conversation: 'x' } }, file, 10_000), { code: 'usage' })
  assert.ok(!existsSync(file.path))
})
