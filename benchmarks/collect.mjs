/**
 * Loaded before a measured program (`node --import`): has it collect its garbage when it is told to by SIGUSR2.
 *
 * Invariant: until then it changes nothing; V8 would otherwise keep garbage for as long as there is memory.
 */

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc')
setFlagsFromString('--no-expose-gc')

process.on('SIGUSR2', () => {
  collect()
  setImmediate(collect)
})
