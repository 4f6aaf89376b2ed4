/**
 * Owns: the HTTPS server that clients upload files to and download them from, and what lies there.
 * Invariant: a file is served as it was uploaded, encrypted by its sender, until it is forgotten.
 */
import { randomBytes } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, readdir, readFile, rm, stat } from 'node:fs/promises'
import { createServer } from 'node:https'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'

export const MEDIA_AUTH = 'simulated'
const MAX_BYTES = 110 * 1024 * 1024
const UPLOAD_PATH = /^\/mms\/[a-z-]+\/[^/]+$/
const FILE_PATH = /^\/o1\/([0-9a-f]{32})$/

export class MediaServer {
  #directory
  #stats
  #server = null
  /** `host:port` as clients are told; null where this simulator serves no files. */
  host = null

  constructor({ stateDir, stats }) {
    this.#directory = join(stateDir, 'media')
    this.#stats = stats
  }

  /** Serves with the certificate and key in these PEM files, which the clients must trust. */
  async listen(address, { certFile, keyFile }) {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 })
    const [cert, key] = await Promise.all([readFile(certFile), readFile(keyFile)])
    this.#server = createServer({ cert, key }, (request, response) => void this.#serve(request, response))
    await new Promise((resolve, reject) => {
      this.#server.once('error', reject).listen(0, address, resolve)
    })
    this.host = `${address}:${this.#server.address().port}`
  }

  async close() {
    this.#server?.closeAllConnections()
    await new Promise((resolve) => (this.#server ? this.#server.close(resolve) : resolve()))
  }

  /** WhatsApp forgets files after some weeks: all that lie here are gone; how many. */
  async forget() {
    const names = await readdir(this.#directory).catch(() => [])
    await Promise.all(names.map((name) => rm(join(this.#directory, name), { force: true })))
    return names.length
  }

  async #serve(request, response) {
    try {
      const url = new URL(request.url, 'https://simulator')
      if (request.method === 'POST') await this.#take(request, response, url)
      else await this.#give(response, url)
    } catch (error) {
      response.destroy(error)
    }
  }

  async #take(request, response, url) {
    if (!UPLOAD_PATH.test(url.pathname) || url.searchParams.get('auth') !== MEDIA_AUTH) return answer(response, 403, {})
    if (Number(request.headers['content-length'] ?? Number.POSITIVE_INFINITY) > MAX_BYTES)
      return answer(response, 413, {})
    const name = randomBytes(16).toString('hex')
    await pipeline(request, createWriteStream(join(this.#directory, name), { mode: 0o600 }))
    this.#stats.uploads++
    const path = `/o1/${name}`
    return answer(response, 200, { url: `https://${this.host}${path}`, direct_path: path })
  }

  async #give(response, url) {
    const name = url.pathname.match(FILE_PATH)?.[1]
    const file = name && join(this.#directory, name)
    const found = file && (await stat(file).catch(() => null))
    if (!found) return answer(response, 404, {})
    this.#stats.downloads++
    response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': found.size })
    return pipeline(createReadStream(file), response)
  }
}

function answer(response, status, body) {
  const text = JSON.stringify(body)
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) })
  response.end(text)
}
