/**
 * Owns a conversation as people have it: one writes a few messages, the other reads them all and answers.
 *
 * Invariant: each change of turn steps the ratchet anew, in every run alike. (When both send without listening, the faster
 * store does less cryptography than the slower, and the comparison is void.)
 */

import { fail, openClient, say } from './clients.mjs'

const TURN = 3
const SILENCE_MS = 30_000

export class Talker {
  #got = new Set()
  #waiting = null
  doubles = 0

  /** A client that knows what has come. @param {{ auth: object, phone: string }} how */
  static async open(how) {
    const talker = new Talker()
    talker.client = await openClient({ ...how, arrived: (id) => talker.#arrived(id) })
    return talker
  }

  #arrived(id) {
    if (this.#got.has(id)) this.doubles++
    this.#got.add(id)
    this.#waiting?.()
  }

  has(ids) {
    return new Promise((resolve) => {
      const silence = setTimeout(() => fail(`nothing arrived for ${SILENCE_MS / 1000} s`), SILENCE_MS)
      this.#waiting = () => {
        if (!ids.every((id) => this.#got.has(id))) return
        clearTimeout(silence)
        resolve()
      }
      this.#waiting()
    })
  }
}

/** `messages` each way. */
export async function converse(a, b, messages) {
  for (let n = 0; n < messages; n += TURN) {
    await tell(a, b, n)
    await tell(b, a, n)
  }
}

async function tell(from, to, n) {
  const sent = []
  for (let i = 0; i < TURN; i++) sent.push(await say(from.client, to.client, `message ${n + i}`))
  await to.has(sent)
}
