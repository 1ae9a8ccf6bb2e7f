// Reading again what events cannot bring: soon after the reason, and never often.

/** How long after a failure without a hint of the server. */
const RETRY_MS = 5_000;

/** Calls a function that reads: at most once per interval, and again after a failure. */
export class Refresher {
  #timer = 0;
  #startedAtMs = -Infinity;
  #isReading = false;
  #isWanted = false;
  #isClosed = false;

  /** @param {() => Promise<void>} read @param {number} everyMs */
  constructor(read, everyMs) {
    this.read = read;
    this.everyMs = everyMs;
  }

  /** Read now, or when the interval has passed. */
  want() {
    this.#isWanted = true;
    if (!this.#timer && !this.#isReading) this.#schedule(this.#startedAtMs + this.everyMs - performance.now());
  }

  close() {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  /** @param {number} delayMs */
  #schedule(delayMs) {
    if (!this.#isClosed) this.#timer = window.setTimeout(() => void this.#run(), Math.max(0, delayMs));
  }

  async #run() {
    this.#timer = 0;
    this.#isWanted = false;
    this.#isReading = true;
    this.#startedAtMs = performance.now();
    let retryMs = 0;
    try {
      await this.read();
    } catch (error) {
      // Without a permission, asking again changes nothing.
      if (/** @type {any} */ (error).code !== "FORBIDDEN")
        retryMs = /** @type {any} */ (error).retryAfterMs ?? RETRY_MS;
    }
    this.#isReading = false;
    if (retryMs) this.#schedule(retryMs);
    else if (this.#isWanted) this.want();
  }
}
