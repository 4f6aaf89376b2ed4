/**
 * Owns the confinement of a process to this machine: for sessions that must never reach real WhatsApp.
 *
 * Invariant: once confined, no TCP connection leaves for anything but a loopback address, whoever asks for it and
 * whatever proxy the environment names; sockets of the file system are not touched.
 */

import { Socket } from 'node:net'
import { StandfastError } from './errors.mjs'

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|::1|\[::1\])$/i
const PROXY = /^(https?|all|no)_proxy$/i

/** Confines this process for the rest of its life, where its environment says so. True where it does. */
export function confine(env) {
  if (!env.STANDFAST_WA_CONFINED) return false
  const url = env.STANDFAST_WA_URL
  if (!URL.canParse(url) || !isLoopback(new URL(url).hostname)) {
    throw new StandfastError('settings', 'STANDFAST_WA_CONFINED needs STANDFAST_WA_URL of a loopback address')
  }
  for (const name of Object.keys(process.env)) if (PROXY.test(name)) delete process.env[name]
  const connect = Socket.prototype.connect
  Socket.prototype.connect = function confined(...args) {
    const host = hostOf(args)
    if (host === null || isLoopback(host)) return connect.apply(this, args)
    // As a connection that fails does: later, when whoever asked for it listens, and what is written meanwhile waits.
    this.connecting = true
    setImmediate(() => this.destroy(new StandfastError('settings', 'a connection to another machine was refused')))
    return this
  }
  return true
}

export const isLoopback = (host) => LOOPBACK.test(host)

/** Whom `net.Socket.connect` is asked for; null for a path. Node's own callers pass its normalized form, an array. */
function hostOf([first, second]) {
  const options = Array.isArray(first) ? first[0] : first
  if (options !== null && typeof options === 'object') return options.path ? null : (options.host ?? 'localhost')
  const isPort = typeof options === 'number' || /^\d+$/.test(options)
  if (!isPort) return null
  return typeof second === 'string' ? second : 'localhost'
}
