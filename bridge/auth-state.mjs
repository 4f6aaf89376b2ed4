/**
 * Owns `useStandfastAuthState`: the auth state of a Node bot on Baileys, kept by a running Standfast service.
 *
 * Invariant: the same contract as Baileys' `useMultiFileAuthState`; what it cannot read or write, it rejects.
 */

import { homedir } from 'node:os'
import { join } from 'node:path'
import { openCompanyAuth, requireCompany } from './lib/company-auth.mjs'
import { GatewayLink } from './lib/gateway-link.mjs'
import { muteConsole } from './lib/quiet-console.mjs'
import { signalStoreOver } from './lib/signal-repository.mjs'

export { StandfastError } from './lib/errors.mjs'

const CLIENT = 'standfast-bridge/0.1.0'
const CALL_TIMEOUT_MS = 30_000
const CONNECT_TIMEOUT_MS = 5_000

/**
 * Opens a company's auth state and holds it until `close()` or the end of the process.
 *
 * `pair: true` allows new creds for a company that is confirmed to have none. `quietSignal: true` keeps libsignal
 * from printing sessions, private keys included, through `console`. Rejects with a StandfastError: `company_unknown`,
 * `company_in_use`, `service_unavailable` (after `connectTimeoutMs`), `database_unavailable`, `grace_expired`, …
 *
 * `onLost(error)` is called once if the company is lost for good: another node has taken it over, or it was paired anew.
 * From then on every call rejects with that error (`company_in_use`); end the socket with `sock.end(error)`, without a
 * logout. Received messages wait unconfirmed meanwhile, for the new owner.
 * @param {{ company: string, socket?: string, pair?: boolean, logger?: import('pino').Logger, quietSignal?: boolean,
 *   onLost?: (error: StandfastError) => void, callTimeoutMs?: number, connectTimeoutMs?: number }} options
 */
export async function useStandfastAuthState(options) {
  const { company, pair = false, logger, quietSignal = false, onLost } = options
  requireCompany(company)
  if (quietSignal) muteConsole({ onlyFrom: 'libsignal' })
  const socketPath = options.socket ?? defaultSocketPath(process.env)
  const callTimeoutMs = options.callTimeoutMs ?? CALL_TIMEOUT_MS
  const link = new GatewayLink({ socketPath, client: CLIENT, company, pair, callTimeoutMs, logger, onLost })
  try {
    await link.connect(options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS)
    const auth = await openCompanyAuth(link, { company, pair })
    link.attach(auth)
    return authState(auth, link)
  } catch (error) {
    link.close()
    throw error
  }
}

function authState(auth, link) {
  const { keys, makeSignalRepository } = signalStoreOver(auth.keys)
  return {
    state: { creds: auth.creds, keys },
    /** For `makeWASocket`: stores ratchet steps before the messages that they encrypt leave, in an order that keeps them. */
    makeSignalRepository,
    saveCreds: () => auth.saveCreds(),
    /** Waits for writes under way, gives the company back, disconnects. */
    close: async () => {
      try {
        await auth.close()
      } finally {
        link.close()
      }
    },
  }
}

/** Where the gateway listens unless told otherwise: the rules of the Python service. */
export function defaultSocketPath(env) {
  if (env.STANDFAST_SOCKET) return env.STANDFAST_SOCKET
  if (env.STANDFAST_STATE_DIR) return join(env.STANDFAST_STATE_DIR, 'gateway.sock')
  const stateHome = env.XDG_STATE_HOME || join(homedir(), '.local', 'state')
  return join(stateHome, 'standfast', 'gateway.sock')
}
