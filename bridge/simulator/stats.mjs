/**
 * Owns: the counters that GET /stats shows.
 * Invariant: counters only grow, and begin at zero with the process.
 */
export const newStats = () => ({
  logins: 0,
  logins_refused: 0,
  pairings: 0,
  evictions: 0,
  messages_in: 0,
  relayed: 0,
  delivered: 0,
  queued: 0,
  delivered_offline: 0,
  acknowledged: 0,
  nacks: 0,
  retries: 0,
  to_phone: 0,
  undeliverable: 0,
  uploads: 0,
  downloads: 0,
  faults: 0,
  malformed_frames: 0,
  internal_errors: 0,
  receipts: {},
  chat_states: {},
  unknown_iqs: {},
  unknown_stanzas: {},
})
