/**
 * Starts the session host: many Baileys sockets in one process, driven over the gateway (docs/protocol.md).
 *
 * Invariant: the Node version is checked and the console muted before Baileys and libsignal are loaded.
 */

import { requireNode } from './lib/node-version.mjs'

requireNode(process.versions.node)
const { muteConsole } = await import('./lib/quiet-console.mjs')
muteConsole()
const { runHost } = await import('./lib/host-process.mjs')
await runHost(process.env)
