// What a handler holds of a call: everything a module can say, and what it knows of the session. Runs no handlers.

import { AUDIO_KIND, JSON_KIND, SAMPLE_OCTETS, dump, octetsOf, packAudio } from "./wire.js";

/** Sound is cut into messages of at most this size, so that nothing waits long behind one. */
const PLAY_OCTETS = 32_768;
/** An ack is worth sending when it is this much further than the one before. */
const ACK_STEP_MS = 200;
/** Octets `onStart` may play before it returns. */
const HELD_LIMIT = 8 << 20;

/** @typedef {{ send(slot: number, kind: number, body: Buffer, urgent?: boolean): void, drained(): Promise<void> }} Link */

/** @typedef {import("../index.d.ts").Session<any>} Declared */

/** @implements {Declared} */
export class Session {
  /** @type {any} */
  state = undefined;
  /** @type {string | undefined} */
  stopReason = undefined;
  #link;
  #slot;
  #settings;
  /**
   * What waits for `ready`.
   * @type {{ kind: number, body: Buffer }[] | undefined}
   */
  #held = [];
  #heldOctets = 0;
  #ended = false;
  #latestEpoch;
  /** @type {number | undefined} */
  #begun;
  #played = 0;
  #ackedMs;
  #utterances = 0;
  /**
   * Utterances that are not final yet, by track.
   * @type {Map<number, { id: string, since: number }>}
   */
  #open = new Map();
  /** @type {{ code: string, message: string } | undefined} */
  _failed;
  /** @type {string | undefined} */
  _finalizeId;

  /**
   * @param {Link} link
   * @param {number} slot
   * @param {any} start
   * @param {import("./host.js").Settings} settings
   */
  constructor(link, slot, start, settings) {
    const resume = start.resume ?? {};
    const features = start.offer?.features ?? [];
    this.#link = link;
    this.#slot = slot;
    this.#settings = settings;
    this.start = start;
    this.id = String(start.session ?? "");
    this.call = { id: "", provider: "", meta: {}, ...start.call };
    this.config = start.config ?? null;
    this.resumed = start.resume !== undefined;
    this.nowMs = Number(resume.from_ms ?? 0);
    this.heardMs = this.nowMs;
    this.epoch = Number(resume.epoch ?? 0);
    this.filters = start.kind === "filter";
    this.rate = Number((this.filters && start.offer?.in?.[0]?.rate) || settings.rate);
    this.canSpeak = settings.speaks !== undefined && (start.offer?.out ?? []).length > 0 && !this.filters;
    this.canSay = features.includes("say");
    this.canPlayUrl = features.includes("play");
    this.#latestEpoch = this.epoch;
    this.#ackedMs = this.nowMs;
  }

  // What was heard

  /**
   * @param {string} text
   * @param {import("../index.d.ts").TranscriptOptions} [options]
   */
  transcript(text, options = {}) {
    const { track = 0, final = true } = options;
    const opened = this.#open.get(track);
    const id = options.id ?? opened?.id ?? this.#nextUtterance();
    const since = opened?.id === id ? opened.since : this.nowMs;
    const start = Math.round(options.start_ms ?? since);
    if (final) this.#open.delete(track);
    else this.#open.set(track, { id, since: start });
    const end = Math.round(options.end_ms ?? this.nowMs);
    const times = { start_ms: start, end_ms: end };
    this._say({ type: "transcript", ...options, id, track, text, final, ...times, finalize_id: this._finalizeId });
    return id;
  }

  #nextUtterance() {
    // The time makes ids differ between a session and the one that resumes it.
    this.#utterances += 1;
    return `u${this.#utterances}-${this.nowMs}`;
  }

  /**
   * @param {import("../index.d.ts").TurnEvent} event
   * @param {import("../index.d.ts").TurnOptions} [options]
   */
  turn(event, options = {}) {
    this._say({ type: "turn", turn: 0, ...options, event });
  }

  /**
   * @param {"speech" | "silence"} state
   * @param {import("../index.d.ts").VadOptions} [options]
   */
  vad(state, options = {}) {
    this._say({ type: "vad", track: 0, at_ms: this.nowMs, ...options, state });
  }

  // What is to be heard

  /** @param {ArrayBufferView} samples */
  play(samples) {
    if (this.#settings.speaks === undefined) {
      throw new TypeError("this module only listens; give it `speaks: 16000` (or another rate)");
    }
    const size = SAMPLE_OCTETS[this.#settings.encoding];
    const octets = octetsOf(samples);
    if (octets.length % size !== 0) {
      throw new RangeError(`${octets.length} octets are no whole number of samples of ${size}`);
    }
    if (!this.canSpeak || !this.#isHeard()) return false;
    if (this.#begun !== this.epoch) {
      this.#begun = this.epoch;
      this.#played = 0;
      this._say({ type: "audio.begin", epoch: this.epoch });
    }
    for (let at = 0; at < octets.length; at += PLAY_OCTETS) {
      const piece = octets.subarray(at, at + PLAY_OCTETS);
      const isBare = this.#settings.framing === "raw";
      this.#put(AUDIO_KIND, isBare ? piece : packAudio(this.epoch, this.#played, piece));
      this.#played += piece.length / size;
    }
    return true;
  }

  /**
   * A filter made this of a frame; `undefined` leaves it as it was.
   * @param {import("./inbox.js").Frame} frame
   * @param {ArrayBufferView | null | undefined} made
   */
  _answerFrame(frame, made) {
    const [octets, whole] = [octetsOf(made ?? frame.samples), frame.samples.byteLength];
    if (octets.length !== whole) {
      throw new RangeError(`${octets.length} octets were returned for ${whole}; a filter keeps the length of what it gets`);
    }
    this.#put(AUDIO_KIND, packAudio(0, frame.pts, octets, frame.track));
  }

  /** Whether what is said now reaches the caller: nobody has cut in since the handler was called. */
  #isHeard() {
    return !this.#ended && this.#latestEpoch <= this.epoch;
  }

  async drain() {
    await this.#link.drained();
  }

  endOfAudio() {
    if (this.#begun === this.epoch) this._say({ type: "audio.end", epoch: this.epoch });
  }

  /**
   * @param {string} text
   * @param {import("../index.d.ts").SayOptions} [options]
   */
  say(text, options = {}) {
    if (!this.canSay || !this.#isHeard()) return false;
    this._say({ type: "say", last: true, ...options, text, epoch: this.epoch });
    return true;
  }

  /**
   * @param {string} url
   * @param {import("../index.d.ts").PlayUrlOptions} [options]
   */
  playUrl(url, options = {}) {
    if (!this.canPlayUrl || !this.#isHeard()) return false;
    this._say({ type: "play", ...options, url, epoch: this.epoch });
    return true;
  }

  /** @param {{ speech?: string, recognition?: string }} languages */
  language(languages) {
    this._say({ type: "language", ...languages });
  }

  clear() {
    const epoch = this.epoch;
    this.epoch += 1;
    this.#latestEpoch = Math.max(this.#latestEpoch, this.epoch);
    this._say({ type: "clear", epoch });
  }

  /** @param {string} name */
  mark(name) {
    this._say({ type: "mark", name });
  }

  pause() {
    this._say({ type: "pause" });
  }

  resume() {
    this._say({ type: "resume" });
  }

  // What is to happen to the call

  /** @param {number} [maxMs] */
  beginPrivate(maxMs) {
    this._say({ type: "private.begin", max_ms: maxMs });
  }

  endPrivate() {
    this._say({ type: "private.end" });
  }

  /**
   * @param {boolean} [given]
   * @param {string} [how]
   */
  consent(given = true, how = "") {
    this._say({ type: "consent", given, how });
  }

  /**
   * @param {string} digits
   * @param {{ tone_ms?: number, gap_ms?: number }} [options]
   */
  dtmf(digits, options = {}) {
    this._say({ type: "dtmf.send", ...options, digits });
  }

  /**
   * @param {string} [reason]
   * @param {import("../index.d.ts").HangupOptions} [options]
   */
  hangup(reason = "", options = {}) {
    this._say({ type: "hangup", after: "now", ...options, reason });
  }

  /** @param {string} to */
  transfer(to) {
    this._say({ type: "transfer", to });
  }

  // What is to be known

  /**
   * @param {string} name
   * @param {unknown} [data]
   */
  event(name, data = null) {
    this._say({ type: "event", name, data });
  }

  /**
   * @param {"debug" | "info" | "warn" | "error"} level
   * @param {string} msg
   * @param {Record<string, unknown>} [fields]
   */
  log(level, msg, fields) {
    this._say({ type: "log", level, msg, fields });
  }

  /**
   * @param {string} name
   * @param {number} value
   * @param {string} [unit]
   */
  metric(name, value, unit = "") {
    this._say({ type: "metric", name, value, unit });
  }

  /** @param {number} inMs */
  ack(inMs) {
    if (inMs - this.#ackedMs < ACK_STEP_MS) return;
    this.#ackedMs = inMs;
    this._say({ type: "ack", in_ms: Math.floor(inMs), lag_ms: Math.max(0, this.heardMs - this.nowMs) });
  }

  /**
   * @param {string} code
   * @param {string} [message]
   * @param {import("../index.d.ts").ErrorOptions} [options]
   */
  error(code, message = "", options = {}) {
    const { fatal = false, retryable = false } = options;
    this._say({ type: "error", ...options, code, message, fatal, retryable });
    if (fatal) {
      this._failed = { code, message };
      this.#ended = true;
    }
  }

  // For what runs the handlers

  get _isEnded() {
    return this.#ended;
  }

  _end() {
    this.#ended = true;
  }

  /** Nobody hears this session any more. */
  _lose() {
    this.#ended = true;
    this.stopReason = "gone";
  }

  /** @param {import("./wire.js").Message} message */
  _say(message) {
    this.#put(JSON_KIND, dump(message));
  }

  /**
   * Nothing may go out before `ready`, so what `onStart` says waits for it.
   * @param {number} kind
   * @param {Buffer} body
   */
  #put(kind, body) {
    if (this.#ended) return;
    if (!this.#held) return this.#link.send(this.#slot, kind, body);
    this.#heldOctets += body.length;
    if (this.#heldOctets > HELD_LIMIT) {
      throw new RangeError("onStart plays too much before it returns; play long sound from another handler");
    }
    this.#held.push({ kind, body: Buffer.from(body) });
  }

  /**
   * Sends `ready` or `reject`, and after a `ready` what was held.
   * @param {import("./wire.js").Message} message
   */
  _answerStart(message) {
    const held = this.#held ?? [];
    this.#held = undefined;
    this.#link.send(this.#slot, JSON_KIND, dump(message));
    if (message.type === "reject") this.#ended = true;
    else for (const { kind, body } of held) this.#link.send(this.#slot, kind, body);
  }

  /**
   * Ahead of the queue of handlers: the generation `epoch` will not be heard.
   * @param {number} epoch
   */
  _interrupted(epoch) {
    this.#latestEpoch = Math.max(this.#latestEpoch, epoch + 1);
  }

  /**
   * Moves to the generation after `epoch`, if not there already.
   * @param {number} epoch
   */
  _cleared(epoch) {
    this.epoch = Math.max(this.epoch, epoch + 1);
    this._interrupted(epoch);
  }
}
