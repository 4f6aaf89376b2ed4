/**
 * Owns what `console` may print in a process with libsignal, which prints sessions with their private keys.
 *
 * Invariant: once muted, no argument of a muted call is formatted, stored or relayed.
 */

const METHODS = ['log', 'info', 'warn', 'error', 'debug']

/** Replaces the console's methods; with `onlyFrom`, calls from other packages than that one still print. */
export function muteConsole({ onlyFrom } = {}) {
  for (const method of METHODS) {
    // biome-ignore lint/suspicious/noConsole: replacing it is what this module is for
    const original = console[method].bind(console)
    console[method] = (...args) => {
      if (onlyFrom && !calledFrom(onlyFrom)) original(...args)
    }
  }
}

function calledFrom(packageName) {
  const caller = new Error().stack?.split('\n')[3] ?? ''
  return caller.includes(`node_modules/${packageName}/`)
}
