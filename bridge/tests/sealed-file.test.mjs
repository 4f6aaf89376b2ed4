/** What the form of files on disk between service and host promises. */

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { withMedia } from '../lib/media-out.mjs'
import { readSealed, readSealedWhole, writeSealed } from '../lib/sealed-file.mjs'

async function sealed(t, body) {
  const directory = await mkdtemp(join(tmpdir(), 'sealed-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  const file = { path: join(directory, 'file'), key: randomBytes(32).toString('hex') }
  const written = await writeSealed(file, Readable.from([body]), 10_000_000)
  return { file, written }
}

test('a file is read as it was written, and is neither readable nor open to others on disk', async (t) => {
  for (const size of [0, 1, 256 * 1024, 700_001]) {
    const body = randomBytes(size)
    const { file, written } = await sealed(t, body)
    assert.equal(written.size_bytes, size)
    assert.ok((await readSealedWhole(file)).equals(body))
    assert.ok(Buffer.concat(await readSealed(file).toArray()).equals(body))
    assert.equal((await stat(file.path)).mode & 0o777, 0o600)
    if (size > 100) assert.ok(!(await readFile(file.path)).includes(body.subarray(10, 60)))
  }
})

test('a file that was changed, cut, or sealed under another key is refused', async (t) => {
  const { file } = await sealed(t, randomBytes(300_000))
  const whole = await readFile(file.path)
  const flipped = Buffer.from(whole)
  flipped[1_000] ^= 1
  for (const damaged of [flipped, whole.subarray(0, -1), whole.subarray(0, 5)]) {
    await writeFile(file.path, damaged)
    await assert.rejects(readSealedWhole(file), { code: 'usage' })
  }
  await writeFile(file.path, whole)
  await assert.rejects(readSealedWhole({ ...file, key: '00'.repeat(32) }), { code: 'usage' })
  await assert.rejects(async () => readSealedWhole({ ...file, key: 'short' }), { code: 'usage' })
})

test('no more is written than was granted, and no file is written over', async (t) => {
  const { file } = await sealed(t, Buffer.from('x'))
  await assert.rejects(writeSealed(file, Readable.from([Buffer.from('y')]), 10), { code: 'EEXIST' })
  const other = { ...file, path: `${file.path}2` }
  await assert.rejects(writeSealed(other, Readable.from([Buffer.alloc(11)]), 10), { code: 'usage' })
})

test('what cannot be looked into is sent all the same', async (t) => {
  const { file } = await sealed(t, Buffer.from('no picture'))
  const image = await withMedia({ image: { sealed: file }, caption: 'c' })
  assert.deepEqual([String(image.image), image.caption, image.jpegThumbnail], ['no picture', 'c', null])
  const audio = await withMedia({ audio: { sealed: file }, ptt: true })
  assert.deepEqual([String(audio.audio), audio.seconds], ['no picture', 0])
  const text = { text: 'unchanged' }
  assert.equal(await withMedia(text), text)
})
