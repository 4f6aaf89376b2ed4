/**
 * Replays a trace from Node against one store, for some companies at once; tells operations a second and latencies.
 *
 * It goes over the trace until its time is over, so that slow and fast stores are measured for equally long.
 * usage: node replay.mjs '{"store","trace","socket"?,"folder"?,"prefix","companies","budgetMs"}'
 */

import { readFileSync } from 'node:fs'
import { reviveBuffers } from '../bridge/lib/values.mjs'
import { options, pause, tell } from './clients.mjs'
import { stores } from './stores.mjs'

const { state, operations } = JSON.parse(readFileSync(options.trace, 'utf8'))
const revived = (text) => (text === null ? null : reviveBuffers(JSON.parse(text)))

const first = {}
for (const [type, id, text] of state) {
  first[type] ??= {}
  first[type][id] = revived(text)
}
const steps = operations.map(([kind, ...rest]) => (kind === 'get' ? { get: rest } : { set: valuesOf(rest[0]) }))

function valuesOf(texts) {
  return Object.entries(texts).map(([type, ids]) => [
    type,
    Object.entries(ids).map(([id, text]) => [id, revived(text)]),
  ])
}

/** A new object each time: to the same one again, a store may say that it has it already. */
function batchOf(values) {
  return Object.fromEntries(values.map(([type, ids]) => [type, Object.fromEntries(ids)]))
}

async function replay(keys, ends, times) {
  for (let n = 0; ; n = (n + 1) % steps.length) {
    const { get, set } = steps[n]
    const batch = set && batchOf(set)
    const began = performance.now()
    if (get) await keys.get(...get)
    else await keys.set(batch)
    const now = performance.now()
    ;(get ? times.get : times.set).push(now - began)
    if (now > ends) return
  }
}

function percentile(values, share) {
  const sorted = Float64Array.from(values).sort()
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0
}

const names = Array.from({ length: options.companies }, (_, n) => `${options.prefix}-${n}`)
const companies = await Promise.all(names.map((name) => stores[options.store](options, name)))
for (const keys of companies) await keys.set(first)
await pause()
const times = { get: [], set: [] }
const cpu = process.cpuUsage()
const began = performance.now()
await Promise.all(companies.map((keys) => replay(keys, began + options.budgetMs, times)))
const seconds = (performance.now() - began) / 1000
const { user, system } = process.cpuUsage(cpu)
const count = times.get.length + times.set.length
tell({
  ops_per_s: count / seconds,
  operations: count,
  seconds,
  get_p50_ms: percentile(times.get, 0.5),
  get_p99_ms: percentile(times.get, 0.99),
  set_p50_ms: percentile(times.set, 0.5),
  set_p99_ms: percentile(times.set, 0.99),
  cpu_us_per_op: (user + system) / count,
})
process.exit(0)
