// One session's life: takes what came in, calls the module's handlers in order, answers for them. Reads no stream.

import { Inbox } from "./inbox.js";
import { Reject } from "./reject.js";
import { Session } from "./session.js";
import { samplesOf, unpackAudio } from "./wire.js";

/** A handler that fails so often in a row ends its session. */
const MAX_FAILURES = 10;
/** Dropped sound is logged at most this often. */
const REPORT_MS = 5_000;
/** Handlers run no longer than this before the process looks after its pipes. */
const TURN_MS = 20;
const DISCONTINUITY = 1;

/** Messages that become a call of a handler, and nothing else. */
const HANDLERS = /** @type {const} */ ({
  dtmf: "onDtmf",
  vad: "onVad",
  mark: "onMark",
  cleared: "onCleared",
  playback: "onPlayback",
  gap: "onGap",
  text: "onText",
  spoken: "onSpoken",
  private: "onPrivate",
  consent: "onConsent",
  event: "onEvent",
});

/** @typedef {import("./wire.js").Message} Message */

export class Runner {
  #host;
  #slot;
  #module;
  #settings;
  #inbox;
  #nextPts;
  #handledMs = 0;
  #droppedMs = 0;
  #unreportedMs = 0;
  #reportAtMs = 0;
  #turnEndsAt = 0;
  /** @type {Map<string, number>} */
  #failures = new Map();

  /**
   * @param {import("./host.js").Host} host
   * @param {number} slot
   * @param {Message} start
   */
  constructor(host, slot, start) {
    this.#host = host;
    this.#slot = slot;
    this.#module = /** @type {any} */ (host.definition);
    this.#settings = host.settings;
    this.#inbox = new Inbox(this.#settings.maxQueueMs);
    this.session = new Session(host.link(slot), slot, start, this.#settings);
    this.#nextPts = Math.floor((this.session.nowMs * this.session.rate) / 1000);
    /** Settles when the session is over; never rejects. */
    this.over = this.#run();
  }

  // Called by what reads from the bridge

  /** @param {Buffer} body */
  sound(body) {
    const { encoding, framing } = this.#settings;
    const { rate, filters } = this.session;
    const bare = { flags: 0, track: 0, pts: this.#nextPts, octets: body };
    const { flags, track, pts, octets } = framing === "raw" && !filters ? bare : unpackAudio(body);
    const samples = samplesOf(octets, encoding);
    this.#nextPts = pts + samples.length;
    const ms = (/** @type {number} */ at) => Math.floor((at * 1000) / rate);
    const frame = { samples, pts, rate, track, flags, at_ms: ms(pts), end_ms: ms(this.#nextPts) };
    this.session.heardMs = Math.max(this.session.heardMs, frame.end_ms);
    this.#inbox.putSound(frame);
  }

  /** @param {Message} message */
  message(message) {
    if (message.type === "stop") return this.#inbox.stop(message, Number(message.deadline_ms ?? 3_000));
    if (message.type === "cleared") this.session._interrupted(Number(message.epoch));
    this.#inbox.putMessage(message);
  }

  /**
   * The bridge is gone: ends the session within about `ms`, as far as its handlers let it.
   * @param {number} ms
   */
  abandon(ms) {
    this.#inbox.stop({ type: "stop", reason: "gone" }, ms);
  }

  /**
   * The bridge is gone while others are not: the same, and what is said from here on goes nowhere.
   * @param {number} ms
   */
  lose(ms) {
    this.session._lose();
    this.abandon(ms);
  }

  // Handlers, one after the other

  async #run() {
    // What made this runner has to know of it before anything is answered.
    await undefined;
    try {
      if (await this.#begin()) await this.#loop();
    } catch (error) {
      // A message of our own that cannot be sent; the other sessions go on.
      console.error(`ringback: session ${this.session.id} ended:`, error);
    } finally {
      this.#host.ended(this.#slot, this);
    }
  }

  async #begin() {
    const s = this.session;
    let refusal;
    try {
      await this.#host.loaded;
    } catch {
      return false;
    }
    try {
      const missing = this.#host.missing(s);
      if (missing) throw new Reject("unsupported_format", missing);
      s.state = this.#module.state?.(s);
      await this.#module.onStart?.(s);
      refusal = s._failed;
    } catch (error) {
      if (error instanceof Reject) {
        const { code, message, retryable, retry_after_ms } = error;
        refusal = { code, message, retryable, retry_after_ms };
      } else {
        console.error(error);
        refusal = { code: "exception", message: `onStart: ${oneLine(error)}` };
      }
    }
    if (refusal) this.#host.ended(this.#slot, this);
    s._answerStart(refusal ? { type: "reject", ...refusal } : this.#host.ready(s));
    return !refusal;
  }

  async #loop() {
    const s = this.session;
    while (!s._isEnded) {
      if (performance.now() >= this.#turnEndsAt) {
        // Promises alone would keep the process from its pipes, and so from pings, while anything waits.
        await new Promise((resolve) => setImmediate(resolve));
        this.#turnEndsAt = performance.now() + TURN_MS;
      }
      const { frame, message } = await this.#inbox.get();
      if (frame) await this.#hear(frame);
      else if (message.type !== "stop") await this.#guard(message.type, () => this.#tell(message));
      else {
        s.stopReason = String(message.reason ?? "hangup");
        break;
      }
    }
    const unheardMs = s.heardMs - s.nowMs;
    this.#droppedMs += unheardMs;
    this.#unreportedMs += unheardMs;
    s.stopReason ??= "error";
    await this.#guard("onStop", () => this.#module.onStop?.(s));
    if (this.#unreportedMs > 0) this.#reportDropped();
    // Before `done`, which lets the bridge use the slot again at once.
    this.#host.ended(this.#slot, this);
    s._say({ type: "done", stats: { in_ms: s.nowMs, handled_ms: this.#handledMs, dropped_ms: this.#droppedMs } });
    s._end();
  }

  /** @param {import("./inbox.js").Frame} frame */
  async #hear(frame) {
    const s = this.session;
    const lost = this.#inbox.lost();
    for (const [track, { from, to }] of lost) await this.#skip(track, from, to);
    if (lost.has(frame.track)) frame = { ...frame, flags: frame.flags | DISCONTINUITY };
    s.nowMs = Math.max(s.nowMs, frame.end_ms);
    if (s.filters) await this.#guard("onFilter", () => this.#filter(frame));
    else if (this.#module.onFrame) await this.#guard("onFrame", () => this.#module.onFrame(s, frame));
    else await this.#guard("onAudio", () => this.#module.onAudio?.(s, frame.samples));
    this.#handledMs += frame.end_ms - frame.at_ms;
    if (this.#settings.autoAck) s.ack(s.nowMs);
    if (this.#unreportedMs > 0 && s.nowMs >= this.#reportAtMs) this.#reportDropped();
  }

  /** @param {import("./inbox.js").Frame} frame */
  async #filter(frame) {
    // What it gets may be changed in place, and what it failed at is not answered.
    this.session._answerFrame(frame, await this.#module.onFilter(this.session, frame.samples));
  }

  /**
   * Sound did not fit into the inbox.
   * @param {number} track
   * @param {number} from
   * @param {number} to
   */
  async #skip(track, from, to) {
    const ms = (/** @type {number} */ at) => Math.floor((at * 1000) / this.session.rate);
    const gap = { track, from_ms: ms(from), to_ms: ms(to), reason: "backpressure" };
    this.#droppedMs += gap.to_ms - gap.from_ms;
    this.#unreportedMs += gap.to_ms - gap.from_ms;
    await this.#guard("onGap", () => this.#module.onGap?.(this.session, gap));
  }

  #reportDropped() {
    const s = this.session;
    const fields = { dropped_ms: this.#unreportedMs, lag_ms: this.#inbox.soundMs };
    s.log("warn", "handlers too slow, sound dropped", fields);
    s.metric("sound.dropped_ms", this.#droppedMs, "ms");
    this.#unreportedMs = 0;
    this.#reportAtMs = s.nowMs + REPORT_MS;
  }

  /** @param {Message} message */
  async #tell(message) {
    const s = this.session;
    if (message.type === "cleared") s._cleared(Number(message.epoch));
    if (message.type === "update") {
      s.config = message.config ?? null;
      await this.#module.onUpdate?.(s, s.config);
    } else if (message.type === "finalize") {
      s._finalizeId = message.id;
      await this.#guard("onFinalize", () => this.#module.onFinalize?.(s));
      s._finalizeId = undefined;
      s._say({ type: "finalized", id: message.id });
    } else if (Object.hasOwn(HANDLERS, message.type)) {
      const handler = HANDLERS[/** @type {keyof typeof HANDLERS} */ (message.type)];
      await this.#module[handler]?.(s, message);
    }
  }

  /**
   * An exception becomes an `error` message, and the end of the session when they go on and on.
   * @param {string} what
   * @param {() => unknown} handler
   */
  async #guard(what, handler) {
    try {
      await handler();
      this.#failures.delete(what);
    } catch (error) {
      const failures = (this.#failures.get(what) ?? 0) + 1;
      this.#failures.set(what, failures);
      console.error(`ringback: session ${this.session.id}: ${what} failed`, error);
      this.session.error("exception", `${what}: ${oneLine(error)}`, { fatal: failures >= MAX_FAILURES });
    }
  }
}

/** @param {unknown} error */
function oneLine(error) {
  return (String(error).split("\n")[0] ?? "").slice(0, 500);
}
