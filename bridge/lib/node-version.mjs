/**
 * Owns the check that this Node.js is new enough, in syntax that an old one still parses.
 *
 * Invariant: an unsuitable Node ends with one clear line and exit code 12 before anything else is loaded.
 */

export const MINIMUM_MAJOR = 20
const EXIT_NODE = 12

export function requireNode(version) {
  if (Number(version.split('.')[0]) >= MINIMUM_MAJOR) return
  process.stderr.write(
    'standfast: Node.js ' +
      version +
      ' is too old: install Node.js ' +
      MINIMUM_MAJOR +
      ' or newer, or point NODE_BINARY at one.\n',
  )
  process.exit(EXIT_NODE)
}
