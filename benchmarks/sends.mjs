/**
 * Sends through Baileys itself, whose auth state a running service keeps; each line of standard input is a round.
 * usage: node sends.mjs '{"socket","url","rootKey","admin","company","phone","contacts":["phone",…],"warmUp","messages"}'
 */

import { useStandfastAuthState } from '../bridge/auth-state.mjs'
import { openClient, options, pause, say, tell } from './clients.mjs'

const CONFIG = { syncFullHistory: false, markOnlineOnConnect: false, emitOwnEvents: false }

const { company, socket, phone } = options
const auth = await useStandfastAuthState({ company, socket, pair: true })
const client = await openClient({ auth, phone, config: CONFIG, arrived: () => {} })

/** What WhatsApp's server has not confirmed; a confirmation may come before `sendMessage` says the id. */
const confirmed = new Set()
let heard = () => {}
client.socket.ws.on('CB:ack,class:message', ({ attrs }) => {
  confirmed.add(attrs.id)
  heard()
})

/** So many messages to each contact, all contacts at once, until all are confirmed. */
async function sendAll(messages) {
  confirmed.clear()
  const count = messages * options.contacts.length
  const began = performance.now()
  await Promise.all(
    options.contacts.map(async (contact) => {
      for (let n = 0; n < messages; n++) await say(client, { phone: contact }, `message ${n}`)
    }),
  )
  await new Promise((resolve) => {
    heard = () => confirmed.size >= count && resolve()
    heard()
  })
  return { messages: count, seconds: (performance.now() - began) / 1000 }
}

await sendAll(options.warmUp)
for (;;) {
  await pause()
  tell(await sendAll(options.messages))
}
