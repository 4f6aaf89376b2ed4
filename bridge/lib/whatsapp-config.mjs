/**
 * Owns where sockets connect to and as which client version they present themselves.
 *
 * Invariant: another root key is trusted only together with another URL; real WhatsApp is always checked against its own.
 */

import { Browsers, DEFAULT_CONNECTION_CONFIG, fetchLatestWaWebVersion } from 'baileys'
import { WA_CERT_DETAILS } from 'baileys/lib/Defaults/index.js'
import { StandfastError } from './errors.mjs'

const VERSION_TIMEOUT_MS = 5_000
const ROOT_KEY_BYTES = 32
const PAIR_BY_QR_BROWSER = ['Standfast', 'Chrome', '1.0']
/** For a pairing code WhatsApp checks the name: it must be a browser on a system that it knows. */
const PAIR_BY_CODE_BROWSER = Browsers.ubuntu('Chrome')

export class WhatsAppConfig {
  #url
  #log
  #version = null

  /** @param {{ STANDFAST_WA_URL?: string, STANDFAST_WA_ROOT_KEY?: string }} env */
  constructor(env, log) {
    this.#url = env.STANDFAST_WA_URL || null
    this.#log = log
    if (env.STANDFAST_WA_ROOT_KEY) this.#trust(env.STANDFAST_WA_ROOT_KEY)
  }

  /** The part of Baileys' socket config that says whom to talk to and as what. */
  async socketConfig(pair) {
    const browser = pair?.by === 'code' ? PAIR_BY_CODE_BROWSER : PAIR_BY_QR_BROWSER
    this.#version ??= this.#findVersion()
    const version = await this.#version
    return this.#url ? { version, browser, waWebSocketUrl: this.#url } : { version, browser }
  }

  /** The version that web.whatsapp.com serves now, once a process; the built-in one if it cannot be learnt in time. */
  async #findVersion() {
    if (this.#url) return DEFAULT_CONNECTION_CONFIG.version
    const found = await fetchLatestWaWebVersion({ signal: AbortSignal.timeout(VERSION_TIMEOUT_MS) })
    if (!found.isLatest) this.#log.warn('the current WhatsApp version could not be learnt, using the built-in one')
    return found.version
  }

  #trust(base64) {
    const key = Buffer.from(base64, 'base64')
    if (!this.#url || key.length !== ROOT_KEY_BYTES) {
      throw new StandfastError('settings', 'STANDFAST_WA_ROOT_KEY needs STANDFAST_WA_URL and 32 bytes of base64')
    }
    WA_CERT_DETAILS.PUBLIC_KEY = key
  }
}
