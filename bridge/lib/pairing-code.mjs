/**
 * Owns asking WhatsApp for a pairing code and learning whether it was granted.
 *
 * Invariant: a code is reported only after the server accepted the request that carries it.
 */

const ANSWER_TIMEOUT_MS = 15_000
const CODE_TTL_S = 50

/**
 * Asks for a code; resolves to the event to report: `pairing_code`, or `pairing_refused` with status and reason.
 * Rejects only if the request could not be sent.
 */
export async function requestPairingCode(sock, phone) {
  const answered = nextAnswer(sock)
  try {
    const code = await sock.requestPairingCode(phone)
    const { status, reason } = await answered.promise
    if (status === 0) return { kind: 'pairing_code', code, ttl_s: CODE_TTL_S }
    return { kind: 'pairing_refused', status, reason }
  } finally {
    answered.cancel()
  }
}

/**
 * Baileys sends the request and does not look at the answer. Its id is the tag that follows ours: tags count
 * upwards and `requestPairingCode` takes one before it first yields. (lib/Socket/socket.js, `generateMessageTag`)
 */
function nextAnswer(sock) {
  const id = tagAfter(sock.generateMessageTag())
  const event = `TAG:${id}`
  let cancel
  const promise = new Promise((resolve) => {
    const timer = setTimeout(resolve, ANSWER_TIMEOUT_MS, { status: 408, reason: 'no answer' })
    const take = (node) => resolve(outcomeOf(node))
    sock.ws.on(event, take)
    cancel = () => {
      clearTimeout(timer)
      sock.ws.off(event, take)
      resolve({ status: 428, reason: 'cancelled' })
    }
  })
  return { promise, cancel }
}

function tagAfter(tag) {
  const [, prefix, number] = /^(.*?)(\d+)$/.exec(tag)
  return `${prefix}${Number(number) + 1}`
}

function outcomeOf(node) {
  if (node.attrs.type === 'result') return { status: 0 }
  const error = Array.isArray(node.content) ? node.content.find((child) => child.tag === 'error') : null
  return { status: Number(error?.attrs.code) || 500, reason: error?.attrs.text || 'refused' }
}
