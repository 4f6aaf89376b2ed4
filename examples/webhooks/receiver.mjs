// Receives webhooks and checks their signatures, with Node's own modules alone.
//
// Run it with the secret that `standfast webhooks add` has shown:
// WEBHOOK_SECRET=whsec_… node examples/webhooks/receiver.mjs [PORT]

import { createHmac, timingSafeEqual } from 'node:crypto'
import { createServer } from 'node:http'

const TOLERANCE_S = 300 // what is older may be a recorded request that somebody sends again
const MAX_BODY_BYTES = 1 << 20
const seen = new Set() // a real receiver keeps this where it keeps its data

/** Whether one of the signatures is that of the secret's owner over these very bytes, made just now. */
export function isGenuine(secret, timestamp, signatures, body) {
  if (!/^\d+$/.test(timestamp) || Math.abs(Date.now() / 1000 - Number(timestamp)) > TOLERANCE_S) return false
  const expected = createHmac('sha256', secret).update(`${timestamp}.`).update(body).digest()
  return signatures.split(',').some((part) => {
    const [version, given = ''] = part.trim().split('=')
    const bytes = Buffer.from(given, 'hex')
    return version === 'v1' && bytes.length === expected.length && timingSafeEqual(bytes, expected)
  })
}

async function bodyOf(request) {
  const chunks = []
  let size = 0
  for await (const chunk of request) {
    size += chunk.length
    if (size > MAX_BODY_BYTES) throw new Error('too large')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

const server = createServer(async (request, response) => {
  try {
    const body = await bodyOf(request) // the bytes as they came: parsing and writing them anew changes them
    const { 'standfast-timestamp': timestamp = '', 'standfast-signature': signatures = '' } = request.headers
    if (!isGenuine(process.env.WEBHOOK_SECRET ?? '', timestamp, signatures, body)) {
      response.writeHead(401).end()
      return
    }
    const event = JSON.parse(body.toString())
    // At least once means: perhaps twice.
    if (!seen.has(event.number)) {
      seen.add(event.number)
      console.log(event.number, event.company, event.kind)
    }
    response.writeHead(204).end() // an event is delivered until it is answered with 2xx
  } catch {
    response.writeHead(400).end()
  }
})

server.listen(Number(process.argv[2] ?? 8080), '127.0.0.1', () => console.log('listening at', server.address().port))
