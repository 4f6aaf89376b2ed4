/**
 * Points every Baileys client of this process at the simulator: `node --import ./simulated-whatsapp.mjs bot.mjs`.
 *
 * Invariant: the bot itself is none the wiser; nothing in it has to be written for tests.
 */

const defaults = new URL('../../../bridge/node_modules/baileys/lib/Defaults/index.js', import.meta.url)
const { DEFAULT_CONNECTION_CONFIG, WA_CERT_DETAILS } = await import(defaults)
DEFAULT_CONNECTION_CONFIG.waWebSocketUrl = process.env.STANDFAST_WA_URL
WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(process.env.STANDFAST_WA_ROOT_KEY, 'base64')
