/**
 * Owns the life of the host process: its connection to the gateway, its reasons to end, its exit codes.
 *
 * Invariant: without its parent or its gateway the process is gone within two seconds, having written nothing more.
 */

import { monitorEventLoopDelay } from 'node:perf_hooks'
import { proto } from 'baileys'
import { confine } from './confinement.mjs'
import { asStandfastError, fromWire, StandfastError, scrub } from './errors.mjs'
import { makeBaileysLog, makeHostLog } from './host-log.mjs'
import { SessionTable } from './session-table.mjs'
import { WhatsAppConfig } from './whatsapp-config.mjs'
import { connectWire } from './wire.mjs'

const CLIENT = 'standfast-host/0.1.0'
const EXIT = { ok: 0, settings: 3, service_unavailable: 9, protocol: 14, crash: 70 }
const DRAIN_TIMEOUT_MS = 500
const DELAY_RESOLUTION_MS = 20

/** Runs until the service shuts it down, the gateway ends, or the parent dies. */
export async function runHost(env) {
  const log = makeHostLog(env.STANDFAST_LOG)
  try {
    confine(env)
    await new HostProcess(env, log).run()
  } catch (thrown) {
    const error = asStandfastError(thrown)
    log.fatal({ code: error.code }, `${error.message} ${error.nextStep}`)
    process.exit(EXIT[error.code] ?? EXIT.crash)
  }
}

class HostProcess {
  #env
  #log
  #wire = null
  #attached = null
  #table
  #shuttingDown = false
  #gone = false
  #loopDelay = monitorEventLoopDelay({ resolution: DELAY_RESOLUTION_MS })

  constructor(env, log) {
    this.#env = env
    this.#log = log
    this.#table = new SessionTable({
      channel: { call: (method, paramsJson) => this.#wire.requestJson(method, paramsJson), logger: log },
      whatsapp: new WhatsAppConfig(env, log),
      baileysLog: makeBaileysLog(log),
      log,
      emit: (event) => this.#wire.notify('session.event', event),
      receive: (params) => this.#wire.request('message.received', params),
      contentOf: (company, messageId) => this.#contentOf(company, messageId),
    })
  }

  async run() {
    this.#guard()
    this.#loopDelay.enable()
    const { STANDFAST_SOCKET: socketPath, STANDFAST_HOST_TOKEN: token } = this.#env
    if (!socketPath)
      throw new StandfastError('settings', 'STANDFAST_SOCKET is not set: the service starts this program')
    delete process.env.STANDFAST_HOST_TOKEN
    const onRequest = (method, params) => this.#answer(method, params)
    const onNotification = (method, { company, error }) => {
      if (method === 'auth.lost') this.#table.lost(company, fromWire(error))
    }
    const attaching = connectWire({ socketPath, role: 'host', client: CLIENT, token, onRequest, onNotification })
    this.#attached = attaching.then((wire) => {
      this.#wire = wire
    })
    await this.#attached
    this.#log.info('host attached to the gateway')
    const reason = await this.#wire.closed
    this.#end(EXIT[reason.code] ?? EXIT.crash, reason.message)
  }

  /** The service may ask in the same breath in which it answers hello: before the wire is ours to answer with. */
  async #answer(method, params) {
    await this.#attached
    const table = this.#table
    const methods = {
      'session.start': () => table.start(params),
      'session.stop': () => table.stop(params),
      'session.logout': () => table.logout(params),
      'session.pre_keys': () => table.preKeys(params),
      'message.send': () => table.send(params),
      'messages.read': () => table.chat('read', params),
      'message.download': () => table.chat('download', params),
      'chat.presence': () => table.chat('presence', params),
      'groups.list': () => table.chat('groups', params),
      'groups.info': () => table.chat('group', params),
      'host.stats': () => this.#stats(params),
      'host.shutdown': () => this.#shutdown(),
    }
    if (Object.hasOwn(methods, method)) return methods[method]()
    throw new StandfastError('protocol', 'unknown method')
  }

  /** What the service keeps of a message that was sent; undefined where it keeps nothing, or cannot tell now. */
  async #contentOf(company, messageId) {
    try {
      const { content } = await this.#wire.request('message.content', { company, message_id: messageId })
      return content === null ? undefined : proto.Message.decode(Buffer.from(content, 'base64'))
    } catch (error) {
      this.#log.warn({ company }, `a message that was asked for again was not found: ${scrub(error.message)}`)
      return undefined
    }
  }

  #stats(params) {
    const delayMs = Math.max(0, this.#loopDelay.percentile(99) / 1e6 - DELAY_RESOLUTION_MS)
    this.#loopDelay.reset()
    const { rss, heapUsed } = process.memoryUsage()
    return {
      pid: process.pid,
      rss_bytes: rss,
      heap_bytes: heapUsed,
      event_loop_delay_ms: Math.round(delayMs * 10) / 10,
      sessions: this.#table.stats(params?.ping_idle_ms),
    }
  }

  async #shutdown() {
    this.#shuttingDown = true
    await this.#table.stopAll()
    // After the answer to this request has been written.
    setImmediate(async () => {
      await this.#wire?.drained(DRAIN_TIMEOUT_MS)
      process.exit(EXIT.ok)
    })
    return null
  }

  #guard() {
    // Baileys keeps what it uploads in temporary files.
    process.umask(0o077)
    // Ctrl-C in a terminal reaches the whole process group; the service ends this host in order.
    process.on('SIGINT', () => {})
    process.on('SIGTERM', () => void this.#shutdown())
    process.on('uncaughtException', (error) => this.#crash('uncaught exception', error))
    process.on('unhandledRejection', (error) => {
      if (isOrdinary(error)) this.#log.warn(`a failure that nobody waited for: ${scrub(error.message)}`)
      else this.#crash('unhandled rejection', error)
    })
    const orphaned = () => this.#end(EXIT.ok, 'the parent process is gone')
    process.stdin.on('end', orphaned).on('error', orphaned).resume()
  }

  #crash(what, error) {
    const where = String(error?.stack ?? '').match(/\/((?:lib|node_modules)\/[^)\s]+)/)?.[1]
    this.#end(EXIT.crash, `${what}: ${scrub(error?.message ?? error)}${where ? ` at ${where}` : ''}`)
  }

  /** Also in the middle of an orderly shutdown: what that waits for cannot arrive any more. */
  #end(reasonCode, why) {
    if (this.#gone) return
    this.#gone = true
    const code = this.#shuttingDown ? EXIT.ok : reasonCode
    this.#log[code === EXIT.ok ? 'info' : 'fatal']({ exit_code: code }, `host ends: ${why}`)
    this.#table.abandonAll()
    process.exit(code)
  }
}

/**
 * Baileys leaves promises of fire-and-forget queries unhandled when a connection ends (Boom), and key reads among
 * them fail when the database is away: neither says anything about the other companies' sockets here.
 */
function isOrdinary(error) {
  return error?.isBoom === true || error instanceof StandfastError
}
