// What a process of a module is to the bridge: register, sessions by slot, pings. Reads and writes no stream itself.

import { Runner } from "./runner.js";
import { AUDIO_KIND, JSON_KIND, SAMPLE_OCTETS, WireError, dump, load } from "./wire.js";

/** Version of the contract spoken. */
const VERSION = 1;
/** The slot that is the process itself. */
const PROCESS = 0;

const DEFAULTS = {
  name: "module",
  version: "",
  rate: 16_000,
  encoding: /** @type {import("../index.d.ts").Encoding} */ ("pcm_s16le"),
  frameMs: 20,
  tracks: /** @type {readonly number[]} */ ([0]),
  framing: "raw",
  speaks: /** @type {number | undefined} */ (undefined),
  pace: "clip",
  maxSessions: 1,
  overflow: "drop_oldest",
  maxQueueMs: 30_000,
  autoAck: true,
};

/** @typedef {typeof DEFAULTS} Settings */
/** @typedef {import("./wire.js").Message} Message */

/** Runs sessions of one module. A transport calls `receive` for each message and `close` at the end. */
export class Host {
  /** @type {Map<number, Runner>} */
  #runners = new Map();
  /** @type {Map<number, import("./session.js").Link>} */
  #links = new Map();
  #slots = PROCESS;
  #link;
  #onChange;

  /**
   * @param {any} definition
   * @param {import("./session.js").Link | undefined} link the way to the bridge; none for a transport of several bridges, which calls
   *   `attach` for each
   * @param {{ maxSessions?: number | undefined, onChange?: () => void }} [options] in the place of the module's own; called when a session
   *   has begun or ended
   */
  constructor(definition, link, options = {}) {
    const { maxSessions = definition.maxSessions, onChange = () => {} } = options;
    this.settings = settings(maxSessions === undefined ? definition : { ...definition, maxSessions });
    this.definition = definition;
    this.#link = link;
    this.#onChange = onChange;
    const register = dump(this.registration());
    /** Settles when the module has loaded what it needs, and a bridge that started it is told so by `register`. */
    this.loaded = Promise.resolve()
      .then(() => definition.onLoad?.())
      .then(() => link?.send(PROCESS, JSON_KIND, register));
    // Who waits for it is told; nobody waits yet.
    this.loaded.catch(() => {});
  }

  /**
   * Takes one message. Never waits. Throws a `WireError` for what no bridge sends.
   * @param {number} kind
   * @param {number} slot
   * @param {Buffer} body
   */
  receive(kind, slot, body) {
    const runner = this.#runners.get(slot);
    if (kind === AUDIO_KIND) {
      if (slot === PROCESS) throw new WireError("sound for slot 0, which is the process and no session");
      return runner?.sound(body);
    }
    const message = load(body);
    if (message.type === "ping") this.link(slot).send(slot, JSON_KIND, dump({ type: "pong", t: message.t ?? 0 }), true);
    else if (message.type === "start") this.#open(slot, message);
    // No runner: a session that has just ended here, or a message to the process that this version does not know.
    else runner?.message(message);
  }

  /** Sessions that are held now. */
  get sessions() {
    return this.#runners.size;
  }

  /**
   * A bridge came: the slot of its session.
   * @param {import("./session.js").Link} link
   */
  attach(link) {
    this.#slots += 1;
    this.#links.set(this.#slots, link);
    return this.#slots;
  }

  /**
   * The bridge of `slot` is gone: ends its session within about `ms`, if it has not ended.
   * @param {number} slot
   * @param {number} ms
   */
  detach(slot, ms) {
    const runner = this.#runners.get(slot);
    this.#links.delete(slot);
    runner?.lose(ms);
  }

  /**
   * The way to the bridge of `slot`.
   * @param {number} slot
   */
  link(slot) {
    const link = this.#links.get(slot) ?? this.#link;
    if (!link) throw new WireError(`slot ${slot} has no bridge`);
    return link;
  }

  /**
   * Ends all sessions as if the call had ended; whether all handlers returned within `ms`.
   * @param {number} ms
   * @returns {Promise<boolean>}
   */
  async close(ms) {
    const runners = [...this.#runners.values()];
    for (const runner of runners) runner.abandon(ms / 2);
    const late = new Promise((resolve) => setTimeout(() => resolve(false), ms));
    const over = Promise.all(runners.map((runner) => runner.over)).then(() => true);
    return /** @type {Promise<boolean>} */ (Promise.race([over, late]));
  }

  // For runners

  /**
   * The answer to `start` that takes the offer as the module wants it.
   * @param {import("./session.js").Session} s
   */
  ready(s) {
    const { encoding, frameMs, speaks, pace, framing, tracks, overflow } = this.settings;
    const hears = (s.filters || this.#hears()) && !isSilent(s);
    const answer = s.filters && hears ? { encoding, rate: s.rate } : null;
    const wants = {
      dtmf: "onDtmf",
      vad: "onVad",
      text: "onText",
      spoken: "onSpoken",
      playback: "onPlayback",
      private: "onPrivate",
      consent: "onConsent",
    };
    return {
      type: "ready",
      session: s.id,
      accept: {
        in: hears ? { encoding, rate: s.rate, frame_ms: frameMs } : null,
        out: s.canSpeak ? { encoding, rate: speaks, pace } : answer,
        tracks: isSilent(s) ? [] : s.filters ? [0] : tracks,
        // An answer of a filter says itself what it is the answer to.
        framing: s.filters ? "hdr16" : framing,
      },
      want: Object.entries(wants).filter(([, handler]) => this.definition[handler]).map(([want]) => want),
      overflow,
    };
  }

  /**
   * What the module cannot do without and the call has not, in words.
   * @param {import("./session.js").Session} s
   */
  missing(s) {
    if (s.filters) return this.#unfitToFilter(s);
    if (!isSilent(s) || !this.#hears() || this.definition.onText) return undefined;
    return (
      `${this.settings.name} hears sound and this call has none: the provider recognises speech by itself; ` +
      "give it onText to take its words"
    );
  }

  /**
   * Why the module cannot filter the sound of this call, if it cannot.
   * @param {import("./session.js").Session} s
   */
  #unfitToFilter(s) {
    const { name, rate } = this.settings;
    if (!this.definition.onFilter) return `${name} is no filter; give it onFilter to make it one`;
    if (this.definition.rate === undefined || rate === s.rate || isSilent(s)) return undefined;
    return (
      `${name} has \`rate: ${rate}\`, and a filter gets the call's own sound, here with ${s.rate} samples per second; ` +
      "leave `rate` away and go by `s.rate`"
    );
  }

  /**
   * The session of `slot` is over.
   * @param {number} slot
   * @param {Runner} runner
   */
  ended(slot, runner) {
    if (this.#runners.get(slot) === runner) this.#runners.delete(slot);
    this.#onChange();
  }

  /** Who this is, as it registers with a bridge. */
  registration() {
    const { name, version, maxSessions, encoding, rate, speaks } = this.settings;
    const kinds = this.definition.onText ? ["text"] : [];
    if (this.definition.onFilter) kinds.push("filter");
    if (speaks !== undefined) kinds.push("agent");
    if (this.#hears() || kinds.length === 0) kinds.push("tap");
    return {
      type: "register",
      module: name,
      version,
      v: [VERSION],
      kinds: this.definition.kinds ?? kinds,
      max_sessions: maxSessions,
      in: this.#hears() ? [{ encoding, rate }] : [],
    };
  }

  #hears() {
    return Boolean(this.definition.onAudio || this.definition.onFrame);
  }

  /**
   * @param {number} slot
   * @param {Message} start
   */
  #open(slot, start) {
    if (slot === PROCESS) throw new WireError("start for slot 0, which is the process and no session");
    const refusal = this.#refusal(slot, start);
    if (refusal) return this.link(slot).send(slot, JSON_KIND, dump({ type: "reject", ...refusal }), true);
    this.#runners.set(slot, new Runner(this, slot, start));
    this.#onChange();
  }

  /**
   * @param {number} slot
   * @param {Message} start
   */
  #refusal(slot, start) {
    if ((start.v ?? VERSION) !== VERSION) {
      return { code: "unsupported_version", message: `this module speaks version ${VERSION}` };
    }
    if (this.#runners.has(slot)) return { code: "busy", message: `slot ${slot} has a session` };
    if (this.#runners.size >= this.settings.maxSessions) {
      const message = `${this.#runners.size} sessions, maxSessions allows no more`;
      return { code: "busy", message, retryable: true };
    }
    return undefined;
  }
}

/** @param {import("./session.js").Session} s */
function isSilent(s) {
  return (s.start.offer?.in ?? []).length === 0;
}

/**
 * What the module asks for, with defaults. Throws for what makes no sense, naming it.
 * @param {any} definition
 * @returns {Settings}
 */
function settings(definition) {
  const given = Object.keys(DEFAULTS).filter((key) => definition[key] !== undefined);
  const all = { ...DEFAULTS, ...Object.fromEntries(given.map((key) => [key, definition[key]])) };
  const complain = (/** @type {string} */ key, /** @type {string} */ wanted) => {
    throw new TypeError(`${key} is ${JSON.stringify(Reflect.get(all, key))}; it must be ${wanted}`);
  };
  const words = {
    encoding: Object.keys(SAMPLE_OCTETS),
    framing: ["raw", "hdr16"],
    pace: ["clip", "live"],
    overflow: ["drop_oldest", "spool", "fail"],
  };
  for (const [key, allowed] of Object.entries(words)) {
    if (!allowed.includes(Reflect.get(all, key))) complain(key, `one of ${allowed.join(", ")}`);
  }
  for (const key of ["rate", "frameMs", "maxSessions", "maxQueueMs", ...(all.speaks === undefined ? [] : ["speaks"])]) {
    const value = Reflect.get(all, key);
    if (!Number.isInteger(value) || value <= 0) complain(key, "a whole number above 0");
  }
  if (all.tracks.length > 1 && all.framing !== "hdr16") {
    throw new TypeError('several tracks need framing: "hdr16" and onFrame');
  }
  return all;
}
