/**
 * Owns bounding a wait.
 *
 * Invariant: the result settles within `timeoutMs`; a wait that was given up is still handled, never an unhandled rejection.
 */

/** The promise's outcome, or a rejection with `makeError()` after `timeoutMs`. */
export function within(timeoutMs, promise, makeError) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(makeError()), timeoutMs)
    promise.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

/** True if the promise settled within `timeoutMs`, whatever its outcome. */
export function settledWithin(timeoutMs, promise) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, timeoutMs, false)
    const done = () => {
      clearTimeout(timer)
      resolve(true)
    }
    promise.then(done, done)
  })
}
