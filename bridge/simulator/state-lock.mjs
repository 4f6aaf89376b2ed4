/**
 * Owns: the claim of one process on a state directory.
 * Invariant: two living simulators never hold the same directory; the claim of a dead one is taken over.
 */
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

export class StateInUseError extends Error {}

/** Claims the directory; resolves with a function that gives it back. Rejects with StateInUseError. */
export async function claimState(directory) {
  const path = join(directory, 'simulator.pid')
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      await writeFile(path, `${process.pid}\n`, { flag: 'wx', mode: 0o600 })
      return () => rm(path, { force: true })
    } catch (error) {
      if (error.code !== 'EEXIST') throw error
    }
    const holder = Number(await readFile(path, 'utf8').catch(() => ''))
    if (await isSimulator(holder)) {
      throw new StateInUseError(`the state directory is held by process ${holder}; stop it or choose another --state`)
    }
    await rm(path, { force: true })
  }
  throw new StateInUseError('the state directory is being claimed by another process; start again')
}

/** Process ids are used again: where the system tells the command line, it must be a simulator's. */
async function isSimulator(pid) {
  if (!pid || pid === process.pid) return false
  try {
    process.kill(pid, 0)
  } catch {
    return false
  }
  const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => null)
  return command === null || command.includes('simulator')
}
