// The transport of a module that the bridge starts as its child: frames over standard input and output.
//
// Standard output belongs to the contract alone. `run` takes it away from everybody else first, so that a `console.log` ends up on
// standard error, which is the module's log.

import { Console } from "node:console";
import { writeSync } from "node:fs";
import { Socket } from "node:net";
import { basename } from "node:path";
import { Host } from "./host.js";
import { Outbox } from "./outbox.js";
import { FrameReader, WireError, frame } from "./wire.js";

const EXIT_OK = 0;
const EXIT_USAGE = 64;
const EXIT_DATA = 65;
const EXIT_FAILED = 70;
/** Time for all handlers to return when the process has to end. */
const STOP_MS = 1_500;
/** Time for what is said by then to be written. */
const FLUSH_MS = 200;

let isClaimed = false;
// A bridge sets this for its children, so that nothing printed while other files are imported, long before `run`, can get in the way.
if (process.env.RINGBACK_STDIO === "1") claimStdout();
delete process.env.RINGBACK_STDIO;

/** Whether a bridge said so when it started this process. */
export function isChild() {
  return isClaimed;
}

/** @param {any} definition */
export function runStdio(definition) {
  if (!isClaimed && process.stdin.isTTY) {
    const script = basename(process.argv[1] ?? "module.js");
    process.stderr.write(
      `${script} is a compute module: a Ringback bridge starts it and talks to it through standard input.\n` +
        `Without a bridge, play a recording to it:\n\n    ringback module test "node ${script}" call.wav\n\n` +
        `Or have it wait for bridges that dial it, or dial one and wait there:\n\n` +
        `    node ${script} --serve 127.0.0.1:9000\n    node ${script} --connect wss://bridge.example/modules/NAME\n`,
    );
    process.exit(EXIT_USAGE);
  }
  claimStdout();
  const outbox = new Outbox(writer(), () => end(EXIT_OK));
  const host = new Host(definition, {
    send: (slot, kind, body, urgent) => outbox.put(frame(kind, slot, body), urgent),
    drained: () => outbox.drained(),
  });
  let isEnding = false;
  const end = async (/** @type {number} */ code) => {
    if (isEnding) return;
    isEnding = true;
    if (!(await host.close(STOP_MS))) console.error("ringback: a handler did not return in time");
    await outbox.flushed(FLUSH_MS);
    process.exit(code);
  };
  host.loaded.catch((error) => {
    console.error(error);
    void end(EXIT_FAILED);
  });
  // Ctrl-C in a terminal reaches the whole group; the bridge drains its calls and then closes standard input.
  process.on("SIGINT", () => {});
  process.on("SIGTERM", () => void end(EXIT_OK));
  read(host, end);
}

/**
 * @param {Host} host
 * @param {(code: number) => Promise<void>} end
 */
function read(host, end) {
  const reader = new FrameReader();
  process.stdin.on("data", (data) => {
    try {
      for (const { kind, slot, body } of reader.feed(/** @type {Buffer} */ (data))) host.receive(kind, slot, body);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      console.error(`ringback: standard input: ${error.message}`);
      process.stdin.destroy();
      void end(EXIT_DATA);
    }
  });
  const ended = () => {
    if (reader.pending > 0) console.error("ringback: standard input ended within a frame");
    void end(EXIT_OK);
  };
  process.stdin.on("end", ended);
  process.stdin.on("error", ended);
}

/** What is printed goes to standard error from now on, also by who asked for `console` or `process.stdout` before. */
function claimStdout() {
  if (isClaimed) return;
  isClaimed = true;
  // Looked up and never touched: to make the stream of file descriptor 1 would make its pipe blocking.
  Object.defineProperty(process, "stdout", { get: () => process.stderr, configurable: true });
  Object.assign(console, new Console({ stdout: process.stderr, stderr: process.stderr }));
}

/** Writes to file descriptor 1 without blocking, if it is a pipe. */
function writer() {
  try {
    const pipe = new Socket({ fd: 1, readable: false, writable: true });
    // Told to each write as well.
    pipe.on("error", () => {});
    return (/** @type {Buffer} */ data, /** @type {(error?: Error | null) => void} */ done) => void pipe.write(data, done);
  } catch {
    return (/** @type {Buffer} */ data, /** @type {(error?: Error | null) => void} */ done) => {
      for (let at = 0; at < data.length; ) at += writeSync(1, data, at);
      setImmediate(done);
    };
  }
}
