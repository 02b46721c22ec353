// The way out: a bounded queue in front of whatever carries octets to the bridge. Knows nothing of messages.

/** Octets queued beyond which `drained` waits: 32 s of 16 kHz samples. */
export const LIMIT = 1 << 20;
/** Octets queued beyond which `put` throws. */
export const HARD_LIMIT = 8 << 20;

/** Writes one piece at a time, so that what is urgent overtakes what waits. */
export class Outbox {
  /** @type {Buffer[]} */
  #queue = [];
  #octets = 0;
  #writing = false;
  #broken = false;
  /** @type {(() => void)[]} */
  #waiters = [];
  #write;
  #onBroken;

  /**
   * @param {(data: Buffer, done: (error?: Error | null) => void) => void} write takes all octets it is given, or says why not; then the
   *   far end is gone
   * @param {() => void} onBroken called once when it is
   */
  constructor(write, onBroken) {
    this.#write = write;
    this.#onBroken = onBroken;
  }

  /**
   * Queues octets, in front of everything if `urgent`. Throws a `RangeError` if far too much waits already.
   * @param {Buffer} data
   */
  put(data, urgent = false) {
    if (this.#broken) return;
    if (this.#octets >= HARD_LIMIT) {
      // Whoever reads nothing of 8 MiB misses no pong either.
      if (urgent) return;
      throw new RangeError("the bridge takes this sound slower than you make it; await s.drain() between plays");
    }
    if (urgent) this.#queue.unshift(data);
    else this.#queue.push(data);
    this.#octets += data.length;
    this.#next();
  }

  /** Resolves when there is room. */
  async drained() {
    // Also where there is room: who plays on and on awaits nothing else, and the pipes need their turn.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.#octets >= LIMIT && !this.#broken) {
      await new Promise((resolve) => this.#waiters.push(() => resolve(undefined)));
    }
  }

  /**
   * Resolves when all is written, at the latest after `ms`.
   * @param {number} ms
   */
  async flushed(ms) {
    const until = performance.now() + ms;
    while (this.#octets > 0 && !this.#broken && performance.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** Nothing of what waits is to be written any more, and nothing is taken. */
  forget() {
    this.#broken = true;
    this.#queue = [];
    this.#octets = 0;
    for (const wake of this.#waiters.splice(0)) wake();
  }

  #next() {
    if (this.#writing) return;
    const data = this.#queue.shift();
    if (data === undefined) return;
    this.#writing = true;
    this.#write(data, (error) => {
      this.#writing = false;
      if (!this.#broken) this.#octets -= data.length;
      if (error && !this.#broken) {
        this.#broken = true;
        this.#queue = [];
        this.#octets = 0;
        this.#onBroken();
      }
      if (this.#octets < LIMIT || this.#broken) {
        for (const wake of this.#waiters.splice(0)) wake();
      }
      this.#next();
    });
  }
}
