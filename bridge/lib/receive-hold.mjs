/**
 * Owns what a received message does while the store fails: it waits.
 *
 * Invariant: a message whose keys could not be read or stored is neither confirmed to the server nor refused; it is
 * handled once the store works again, by this socket or, delivered anew, by the next one.
 *
 * Baileys takes such a failure for a message that cannot be decrypted: it asks the sender for another copy, which needs
 * the store again, and refuses the message to the server, which then forgets it (`handleMessage`:
 * lib/Socket/messages-recv.js). No wait is done inside a transaction, whose lock sending needs.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { StandfastError } from './errors.mjs'

const RETRY_DELAY_MS = 500
const OF_REPOSITORY = ['decryptMessage', 'decryptGroupMessage', 'migrateSession', 'processSenderKeyDistributionMessage']
const OF_MAPPING = ['getPNForLID', 'getLIDForPN', 'storeLIDPNMappings']

/** Makes what receiving calls of a repository wait for the store, in place. */
export function holdReceiving(repository, keys) {
  const hold = new Hold(keys)
  for (const name of OF_REPOSITORY) hold.put(repository, name)
  for (const name of OF_MAPPING) hold.put(repository.lidMapping, name)
  const { close } = repository
  repository.close = () => {
    hold.isClosed = true
    close.call(repository)
  }
  return repository
}

class Hold {
  #keys
  /** The socket has ended: what waits belongs to its successor, to which the server delivers it. */
  isClosed = false

  constructor(keys) {
    this.#keys = keys
  }

  put(owner, name) {
    const work = owner[name].bind(owner)
    owner[name] = (...args) => (this.#keys.isInTransaction() ? work(...args) : this.#done(() => work(...args)))
  }

  async #done(work) {
    for (;;) {
      try {
        return await work()
      } catch (error) {
        if (!(error instanceof StandfastError)) throw error
        if (!error.retryable) return never()
      }
      await sleep(RETRY_DELAY_MS)
      if (this.isClosed) return never()
    }
  }
}

/** One of its own for each wait: a shared promise would keep everything that ever waited for it. */
function never() {
  return new Promise(() => {})
}
