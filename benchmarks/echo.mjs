/**
 * Round trips of 1 KB over a bare Unix socket: the least that any answer from another process can cost.
 * usage: node echo.mjs '{"socket","budgetMs"}'
 */

import { createConnection } from 'node:net'
import { options, pause, tell } from './clients.mjs'

const LENGTH = 1024
const socket = createConnection(options.socket)
const message = Buffer.alloc(LENGTH, 'x')
let arrived = 0
let back = null
socket.on('data', (chunk) => {
  arrived += chunk.length
  if (arrived < LENGTH) return
  arrived = 0
  back()
})

async function trip() {
  const returned = new Promise((resolve) => {
    back = resolve
  })
  socket.write(message)
  await returned
}

await pause()
let count = 0
const began = performance.now()
while (performance.now() - began < options.budgetMs) {
  await trip()
  count++
}
tell({ round_trip_ms: (performance.now() - began) / count })
process.exit(0)
