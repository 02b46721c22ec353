// The way in of one session: sound and messages in order, bounded in time. Calls no handler.

import { WireError } from "./wire.js";

/** Messages waiting for a handler beyond which the bridge is at fault: calls do not have so many events in 30 s. */
export const MAX_MESSAGES = 1024;

/** @typedef {import("../index.d.ts").Frame<any>} Frame */
/** @typedef {{ frame: Frame, message?: undefined } | { message: import("./wire.js").Message, frame?: undefined }} Item */

/** A queue between what reads from the bridge, which never waits here, and what runs handlers. */
export class Inbox {
  #maxMs;
  /** @type {Item[]} */
  #items = [];
  #soundMs = 0;
  #messages = 0;
  /** @type {Map<number, { from: number, to: number }>} */
  #lost = new Map();
  /** @type {import("./wire.js").Message | undefined} */
  #stop;
  #hurryAt = Infinity;
  /** @type {(() => void) | undefined} */
  #wake;

  /** @param {number} maxMs */
  constructor(maxMs) {
    this.#maxMs = maxMs;
  }

  /** Sound that waits. */
  get soundMs() {
    return Math.round(this.#soundMs);
  }

  /**
   * Queues sound and drops the oldest beyond the bound; `lost` tells.
   * @param {Frame} frame
   */
  putSound(frame) {
    this.#items.push({ frame });
    this.#soundMs += length(frame);
    while (this.#soundMs > this.#maxMs && this.#dropOldest());
    this.#wake?.();
  }

  /**
   * Queues a message. Throws a `WireError` when far more wait than a call can have.
   * @param {import("./wire.js").Message} message
   */
  putMessage(message) {
    this.#messages += 1;
    if (this.#messages > MAX_MESSAGES) {
      throw new WireError(`over ${MAX_MESSAGES} messages wait for one handler; it is stuck or the bridge floods`);
    }
    this.#items.push({ message });
    this.#wake?.();
  }

  /**
   * Ends the queue with `message`. What waits is still taken until half of `deadlineMs` has passed.
   * @param {import("./wire.js").Message} message
   * @param {number} deadlineMs
   */
  stop(message, deadlineMs) {
    this.#hurryAt = Math.min(this.#hurryAt, performance.now() + deadlineMs / 2);
    this.#stop ??= message;
    this.#wake?.();
  }

  /**
   * The next item, waiting for it. The `stop` message comes last and then always.
   * @returns {Promise<Item>}
   */
  async get() {
    for (;;) {
      const late = performance.now() >= this.#hurryAt;
      const item = late ? undefined : this.#items.shift();
      if (item) {
        if (item.frame) this.#soundMs -= length(item.frame);
        else this.#messages -= 1;
        return item;
      }
      if (this.#stop) return { message: this.#stop };
      await new Promise((resolve) => (this.#wake = () => resolve(undefined)));
      this.#wake = undefined;
    }
  }

  /** Sound dropped since the last time this was asked: by track, from and to which position. */
  lost() {
    const lost = this.#lost;
    if (lost.size > 0) this.#lost = new Map();
    return lost;
  }

  #dropOldest() {
    const index = this.#items.findIndex((item) => item.frame);
    const frame = this.#items[index]?.frame;
    if (!frame) return false;
    this.#items.splice(index, 1);
    this.#soundMs -= length(frame);
    const from = this.#lost.get(frame.track)?.from ?? frame.pts;
    this.#lost.set(frame.track, { from, to: frame.pts + frame.samples.length });
    return true;
  }
}

/** @param {Frame} frame */
function length(frame) {
  return (frame.samples.length * 1000) / frame.rate;
}
