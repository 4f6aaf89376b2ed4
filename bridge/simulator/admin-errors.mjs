/**
 * Owns: the one shape in which the admin API refuses.
 * Invariant: every refusal says what to do next.
 */
export class AdminError extends Error {
  constructor(status, code, message, nextStep) {
    super(message)
    this.status = status
    this.code = code
    this.nextStep = nextStep
  }

  toJSON() {
    return { error: { code: this.code, message: this.message, next_step: this.nextStep } }
  }
}
