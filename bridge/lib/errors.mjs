/**
 * Owns StandfastError, the bridge's form of the errors in `standfast.errors`.
 *
 * Invariant: a message, next step or fact never holds key material, a token or a phone number.
 */

const NEXT_STEPS = {
  internal: "Look at the service log; report it with the output of 'standfast config'.",
  usage: 'Correct the argument and try again; docs/protocol.md shows what is accepted.',
  company_unknown: "Pair it: 'standfast pair COMPANY'; 'standfast sessions' lists the companies there are.",
  company_in_use: 'Stop the other holder first; two holders of one company evict each other.',
  session_not_open: "See its state with 'standfast sessions'; pair or restart it.",
  service_unavailable: "Start it with 'standfast up', or name its state directory with STANDFAST_STATE_DIR.",
  auth_state_corrupt: 'Keep the damaged copy and restore the company from a backup or an export.',
  protocol: "See docs/protocol.md; update the client to the service's protocol version.",
  send_failed: "See the session's state with 'standfast sessions' and send again.",
  settings: "Correct the setting; 'standfast config' shows each value with its source.",
}

const RETRYABLE = new Set(['session_not_open', 'service_unavailable', 'send_failed'])

/** An error with a stable `code`, the operator's `nextStep`, and whether the same call may succeed later. */
export class StandfastError extends Error {
  /** @param {{ nextStep?: string, retryable?: boolean, facts?: object, cause?: unknown }} [more] */
  constructor(code, message, more = {}) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause })
    this.name = 'StandfastError'
    this.code = code
    this.nextStep = more.nextStep ?? NEXT_STEPS[code] ?? NEXT_STEPS.internal
    this.retryable = more.retryable ?? RETRYABLE.has(code)
    this.facts = more.facts
  }

  /** The JSON form that crosses the gateway. */
  asWire() {
    const { code, message, nextStep: next_step, retryable, facts } = this
    return facts ? { code, message, next_step, retryable, facts } : { code, message, next_step, retryable }
  }
}

/** The error that a peer sent; a malformed one still becomes an error. */
export function fromWire(wire) {
  return new StandfastError(String(wire?.code ?? 'internal'), String(wire?.message ?? 'unknown error'), {
    nextStep: wire?.next_step,
    retryable: wire?.retryable === true,
    facts: wire?.facts,
  })
}

/** Any thrown value as a StandfastError; foreign messages are scrubbed of long digit runs. */
export function asStandfastError(error, code = 'internal') {
  if (error instanceof StandfastError) return error
  return new StandfastError(code, scrub(error?.message ?? error), { cause: error })
}

/** Free text without what could be a phone number or key: digit runs of 7 and base64 runs of 32 or more. */
export function scrub(text) {
  return String(text)
    .replace(/[A-Za-z0-9+/_-]{32,}={0,2}/g, '[hidden]')
    .replace(/\d{7,}/g, '[number]')
    .slice(0, 500)
}
