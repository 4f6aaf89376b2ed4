/**
 * Owns: the command line, the ready line on stdout, and the life of the simulator process.
 * Invariant: stdout carries exactly one line; nothing that libsignal prints (private keys among it) gets out.
 */
import { parseArgs } from 'node:util'
import pino from 'pino'

const EXIT_BAD_ARGUMENTS = 2
const EXIT_PORT_IN_USE = 11
const EXIT_STATE_IN_USE = 10
const CLOSE_TIMEOUT_MS = 900
const USAGE =
  'usage: main.mjs --state DIR [--host 127.0.0.1] [--port 0] [--admin-port 0] [--media-cert FILE --media-key FILE] [--exit-with-parent]'

for (const method of ['log', 'info', 'warn', 'error', 'debug', 'trace', 'dir']) console[method] = () => {}

const log = pino(
  {
    level: process.env.STANDFAST_LOG || 'warn',
    base: { part: 'simulator' },
    formatters: { level: (label) => ({ level: label }) },
  },
  pino.destination({ dest: 2, sync: true }),
)

function fail(code, message) {
  log.fatal(message)
  process.exit(code)
}

function portNumber(name, text) {
  const port = Number(text)
  if (!/^\d+$/.test(text) || port > 65535)
    fail(EXIT_BAD_ARGUMENTS, `${name} must be a port number from 0 to 65535; ${USAGE}`)
  return port
}

function readArguments() {
  const text = { type: 'string' }
  const options = {
    host: { ...text, default: '127.0.0.1' },
    port: { ...text, default: '0' },
    'admin-port': { ...text, default: '0' },
    state: text,
    'media-cert': text,
    'media-key': text,
    'exit-with-parent': { type: 'boolean', default: false },
  }
  try {
    const { values } = parseArgs({ options, strict: true, allowPositionals: false })
    if (!values.state) throw new Error('--state is missing')
    const { 'media-cert': certFile, 'media-key': keyFile } = values
    if (!certFile !== !keyFile) throw new Error('--media-cert and --media-key belong together')
    return {
      ...values,
      port: portNumber('--port', values.port),
      mediaTls: certFile ? { certFile, keyFile } : null,
      adminPort: portNumber('--admin-port', values['admin-port']),
    }
  } catch (error) {
    return fail(EXIT_BAD_ARGUMENTS, `${error.message}; ${USAGE}`)
  }
}

const settings = readArguments()
const { Simulator } = await import('./simulator.mjs')
const { StateInUseError } = await import('./state-lock.mjs')
const simulator = new Simulator({ stateDir: settings.state, log })
let closing = false

async function shutDown() {
  if (closing) return
  closing = true
  setTimeout(() => process.exit(1), CLOSE_TIMEOUT_MS).unref()
  await simulator.close().catch((error) => log.error({ err: error.message }, 'the simulator did not close cleanly'))
  process.exit(0)
}

process.on('SIGTERM', shutDown)
process.on('SIGINT', shutDown)
// A contact's Baileys socket may reject after its connection fell; that must not end the server.
process.on('unhandledRejection', (error) => log.warn({ err: error?.message }, 'a promise was rejected unheard'))
if (settings['exit-with-parent']) process.stdin.on('end', shutDown).on('error', shutDown).resume()

try {
  const { url, adminUrl, rootKey } = await simulator.start(settings)
  process.stdout.write(
    `${JSON.stringify({ event: 'ready', url, admin: adminUrl, root_key: rootKey, pid: process.pid })}\n`,
  )
} catch (error) {
  if (error instanceof StateInUseError) fail(EXIT_STATE_IN_USE, error.message)
  await simulator.close().catch(() => {})
  if (error.code === 'EADDRINUSE')
    fail(EXIT_PORT_IN_USE, `port ${error.port} on ${settings.host} is in use; choose another port or 0 for a free one`)
  fail(1, `the simulator could not start: ${error.message}`)
}
