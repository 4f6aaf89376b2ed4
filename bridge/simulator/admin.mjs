/**
 * Owns: the admin HTTP API: it translates requests to calls on the rooms and decides nothing itself.
 * Invariant: whatever a request holds, it is answered with JSON; a refusal says what to do next.
 */
import { createServer } from 'node:http'
import { AdminError } from './admin-errors.mjs'
import { routes } from './admin-routes.mjs'

const MAX_BODY_BYTES = 64 * 1024
const REQUEST_TIMEOUT_MS = 30_000

export class Admin {
  #rooms
  #log
  #server

  constructor(rooms) {
    this.#rooms = rooms
    this.#log = rooms.log
    this.#server = createServer((request, response) => void this.#serve(request, response))
    this.#server.requestTimeout = REQUEST_TIMEOUT_MS
    this.#server.keepAliveTimeout = 1_000
  }

  /** Resolves with the bound port. */
  listen(host, port) {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(port, host, () => resolve(this.#server.address().port))
    })
  }

  close() {
    this.#server.closeAllConnections()
    return new Promise((resolve) => this.#server.close(resolve))
  }

  async #serve(request, response) {
    try {
      const { status = 200, body } = await this.#answer(request)
      reply(response, status, body)
    } catch (error) {
      if (error instanceof AdminError) return reply(response, error.status, error.toJSON())
      this.#log.error({ err: error.stack }, 'an admin request failed')
      reply(
        response,
        500,
        new AdminError(
          500,
          'internal',
          'the request failed inside the simulator',
          'look at the log of the simulator',
        ).toJSON(),
      )
    }
  }

  async #answer(request) {
    const url = new URL(request.url, 'http://simulator')
    const path = url.pathname.split('/').filter(Boolean).map(decode)
    const known = routes.filter((route) => matches(route, path))
    if (!known.length)
      throw new AdminError(404, 'unknown_path', 'there is no such path', 'see docs/simulator.md for the paths')
    const route = known.find((candidate) => candidate.method === request.method)
    if (!route)
      throw new AdminError(
        405,
        'wrong_method',
        `${request.method} is not possible here`,
        `use ${known.map((r) => r.method).join(' or ')}`,
      )
    const params = path.filter((_part, index) => route.path[index].startsWith(':'))
    const body = request.method === 'POST' ? await readJson(request) : {}
    return route.handle(this.#rooms, { params, body, query: url.searchParams })
  }
}

function decode(part) {
  try {
    return decodeURIComponent(part)
  } catch {
    throw new AdminError(400, 'bad_path', 'the path is not valid percent-encoding', 'encode the path again')
  }
}

const matches = (route, path) =>
  route.path.length === path.length && route.path.every((part, index) => part.startsWith(':') || part === path[index])

async function readJson(request) {
  const chunks = []
  let bytes = 0
  for await (const chunk of request) {
    bytes += chunk.length
    if (bytes > MAX_BODY_BYTES)
      throw new AdminError(
        413,
        'body_too_large',
        `the body is larger than ${MAX_BODY_BYTES} bytes`,
        'send a smaller body',
      )
    chunks.push(chunk)
  }
  let body
  try {
    body = JSON.parse(Buffer.concat(chunks).toString('utf8') || '{}')
  } catch {
    throw new AdminError(400, 'bad_json', 'the body is not JSON', 'send a JSON object')
  }
  if (body === null || typeof body !== 'object' || Array.isArray(body))
    throw new AdminError(400, 'bad_json', 'the body is not a JSON object', 'send a JSON object')
  return body
}

function reply(response, status, body) {
  if (response.headersSent || response.destroyed) return
  const text = JSON.stringify(body ?? {})
  // After a refused oversized body the rest of it is not read: the connection cannot be used again.
  const connection = status === 413 ? { connection: 'close' } : {}
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
    ...connection,
  })
  response.end(text)
}
