/*
 * The steps of a meeting, in their order: which one is under way, and how many milliseconds each has taken.
 */

export const STEPS = ['relay', 'reserve', 'call', 'direct', 'leave']

export class Steps {
  #since = new Map()

  /** `show` is told of each change: the step, 'waiting', 'running', 'done' or 'failed', and the time of one that is done. */
  constructor (show) {
    this.show = show
  }

  /** One that is under way already goes on. */
  begin (step) {
    if (!this.#since.has(step)) {
      this.#since.set(step, performance.now())
    }
    this.show(step, 'running')
  }

  /** `since` is the time of performance.now() at which it began, where that was not here. */
  done (step, since = this.#since.get(step)) {
    if (since != null) {
      this.#since.delete(step)
      this.show(step, 'done', Math.round(performance.now() - since))
    }
  }

  /** What was under way has failed. */
  fail () {
    for (const step of this.#since.keys()) {
      this.show(step, 'failed')
    }
    this.#since.clear()
  }

  /** This step and those after it are still to come. */
  reset (step) {
    for (const later of STEPS.slice(STEPS.indexOf(step))) {
      this.#since.delete(later)
      this.show(later, 'waiting')
    }
  }
}
