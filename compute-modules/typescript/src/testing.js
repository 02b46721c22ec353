// For tests of modules: one session over a child's pipes, from `start` to `done`. Has no playback of its own.

import { spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { AUDIO_KIND, FrameReader, JSON_KIND, dump, frame, load, octetsOf, packAudio, unpackAudio } from "./wire.js";

const SLOT = 1;

/**
 * @param {readonly string[]} command
 * @param {import("../testing.d.ts").Options} [options]
 */
export async function runCommand(command, options = {}) {
  const peer = new Peer(command, options.env ?? {});
  const late = new AbortController();
  const timeoutMs = options.timeoutMs ?? 30_000;
  try {
    const timeout = sleep(timeoutMs, undefined, { signal: late.signal }).then(() => {
      throw new Error(`the module was not done within ${timeoutMs} ms; it wrote: ${peer.stderr}`);
    });
    return await Promise.race([session(peer, options), timeout]);
  } finally {
    late.abort();
    peer.child.kill("SIGKILL");
  }
}

/**
 * @param {Peer} peer
 * @param {import("../testing.d.ts").Options} options
 */
async function session(peer, options) {
  const rate = options.words ? undefined : (options.rate ?? 16_000);
  peer.say(start(rate, options.config));
  const answer = await peer.until("ready", "reject");
  if (answer.type === "ready") {
    if (options.words) sayWords(peer, options.words);
    else await playSound(peer, answer.accept, options);
    peer.say({ type: "stop", reason: "hangup", deadline_ms: 10_000 });
    await peer.until("done");
  }
  peer.child.stdin.end();
  const code = await peer.exited;
  return { said: peer.said, played: Buffer.concat(peer.played), stderr: peer.stderr, code };
}

/**
 * @param {Peer} peer
 * @param {readonly string[]} words
 */
function sayWords(peer, words) {
  words.forEach((text, index) => {
    peer.say({ type: "text", id: `p${index + 1}`, track: 0, text, final: true, start_ms: 0, end_ms: 0 });
  });
}

/**
 * @param {Peer} peer
 * @param {any} accept
 * @param {import("../testing.d.ts").Options} options
 */
async function playSound(peer, accept, options) {
  const { rate = 16_000, speed = 10 } = options;
  const samples = options.samples ?? new Int16Array(rate);
  const encoding = accept.in?.encoding ?? "pcm_s16le";
  if ((accept.in?.rate ?? rate) !== rate || !["pcm_s16le", "pcm_f32le"].includes(encoding)) {
    throw new Error(`the module hears ${encoding} at ${accept.in.rate}, and the test plays linear sound at ${rate}`);
  }
  const messages = [...(options.messages ?? [])].sort(([a], [b]) => a - b);
  const size = Math.floor((rate * (accept.in?.frame_ms ?? 20)) / 1000);
  const began = performance.now();
  for (let pts = 0; pts < samples.length && !peer.isOver; pts += size) {
    const ms = (pts * 1000) / rate;
    while (messages[0] && messages[0][0] <= ms) peer.say(messages.shift()?.[1] ?? { type: "" });
    const wait = began + ms / speed - performance.now();
    if (wait > 0) await sleep(wait);
    const piece = samples.subarray(pts, pts + size);
    const octets = octetsOf(encoding === "pcm_s16le" ? piece : Float32Array.from(piece, (sample) => sample / 32_768));
    if (accept.in) peer.send(AUDIO_KIND, accept.framing === "hdr16" ? packAudio(0, pts, octets, 0) : octets);
  }
  for (const [, message] of messages) peer.say(message);
}

/** A child, what it said and whether it is still there. */
class Peer {
  /** @type {import("../testing.d.ts").Message[]} */
  said = [];
  /** @type {Buffer[]} */
  played = [];
  stderr = "";
  isOver = false;
  #seen = 0;
  #epoch = 0;
  #framing = "raw";
  #wake = () => {};
  /** @type {Error | undefined} */
  #failed;

  /**
   * @param {readonly string[]} command
   * @param {Record<string, string>} env
   */
  constructor([program = "", ...parameters], env) {
    const stdio = /** @type {["pipe", "pipe", "pipe"]} */ (["pipe", "pipe", "pipe"]);
    this.child = spawn(program, parameters, { stdio, env: { ...process.env, RINGBACK_STDIO: "1", ...env } });
    const reader = new FrameReader();
    this.child.stdout.on("data", (data) => {
      try {
        for (const { kind, body } of reader.feed(data)) this.#take(kind, body);
      } catch (error) {
        this.#failed = /** @type {Error} */ (error);
      }
      this.#wake();
    });
    this.child.stderr.setEncoding("utf8").on("data", (text) => (this.stderr += text));
    // It may be gone before it has read all; the end of its output says so.
    this.child.stdin.on("error", () => {});
    this.child.on("error", (error) => (this.#failed = error));
    /** @type {Promise<number | null>} */
    this.exited = new Promise((resolve) => this.child.on("close", resolve));
    void this.exited.then(() => {
      this.isOver = true;
      this.#wake();
    });
  }

  /**
   * @param {number} kind
   * @param {Uint8Array} body
   */
  send(kind, body, slot = SLOT) {
    this.child.stdin.write(frame(kind, slot, body));
  }

  /** @param {import("../testing.d.ts").Message} message */
  say(message, slot = SLOT) {
    this.send(JSON_KIND, dump(message), slot);
  }

  /**
   * The next message of one of these types that was not looked at yet.
   * @param {string[]} types
   */
  async until(...types) {
    for (;;) {
      const message = this.said[this.#seen];
      if (message) {
        this.#seen += 1;
        if (types.includes(message.type)) return message;
        if (message.type === "error" && message.fatal) throw new Error(`the module gave up: ${message.code}: ${message.message}`);
        continue;
      }
      if (this.#failed) throw this.#failed;
      if (this.isOver) throw new Error(`the module is gone before it said ${types.join(" or ")}; it wrote: ${this.stderr}`);
      await new Promise((resolve) => (this.#wake = () => resolve(undefined)));
    }
  }

  /**
   * @param {number} kind
   * @param {Buffer} body
   */
  #take(kind, body) {
    if (kind === AUDIO_KIND) {
      this.played.push(Buffer.from(this.#framing === "hdr16" ? unpackAudio(body).octets : body));
      return;
    }
    const message = load(body);
    if (message.type === "pong") return;
    this.said.push(message);
    if (message.type === "ready") this.#framing = message.accept.framing;
    if (message.type === "mark") {
      this.say({ type: "mark", name: message.name, epoch: this.#epoch, status: "played", played_ms: 0 });
    } else if (message.type === "clear") {
      this.say({ type: "cleared", epoch: this.#epoch, played_ms: 0, discarded_ms: 0 });
      this.#epoch += 1;
    }
  }
}

/**
 * What a bridge offers; `rate` is undefined on a call that carries words.
 * @param {number | undefined} rate
 * @param {unknown} config
 */
function start(rate, config) {
  const formats = rate === undefined ? [] : [{ encoding: "pcm_s16le", rate }];
  const sound = ["dtmf", "clear", "mark", "playback", "finalize", "hangup", "resume"];
  return {
    type: "start",
    v: 1,
    session: "test",
    kind: "agent",
    call: { id: "test", from: "caller", direction: "inbound", provider: "test" },
    config,
    offer: {
      tracks: rate === undefined ? [] : [{ id: 0, role: "caller" }],
      in: formats,
      out: formats,
      frame_ms: [10, 20, 40, 60, 100],
      framing: ["raw", "hdr16"],
      features: rate === undefined ? ["text", "say", "play", "spoken", "language", "hangup", "resume"] : sound,
    },
  };
}
