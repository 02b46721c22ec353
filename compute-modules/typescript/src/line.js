// One connection to a bridge as a WebSocket, whoever of the two opened it, and the session on it. Opens none itself.

import { Outbox } from "./outbox.js";
import { BINARY, CLOSE, PING, PONG, Reader, TEXT, Violation, closeCode, closeFrame, frame } from "./websocket.js";
import { AUDIO_KIND, JSON_KIND, MAX_BODY, WireError } from "./wire.js";

export const SUBPROTOCOL = "ringback.v1";
/** Close code for what is not the contract. */
export const BREACH = 4002;
/** Close code for a deadline that passed. */
export const LATE = 4008;
export const NORMAL = 1000;
export const GOING_AWAY = 1001;
/** A bridge pings at least every 5 s; one that is silent for so long is gone. */
const SILENT_MS = 15_000;
/** Time for the last words to go out. */
const LINGER_MS = 1_000;
/** Time for handlers to return when their bridge is gone. */
export const STOP_MS = 1_500;
/** Octets of answers that wait; whoever takes none of them is read no further. */
const MAX_ANSWERS = 65_536;

/** The way to one bridge, for one session. */
export class Connection {
  #socket;
  #isClosed = false;
  #outbox;

  /**
   * @param {import("node:stream").Duplex} socket
   * @param {boolean} masks whether this is the client's end
   */
  constructor(socket, masks = false) {
    this.#socket = socket;
    this.masks = masks;
    this.#outbox = new Outbox(
      (data, done) => void socket.write(data, done),
      () => {},
    );
    // What happens to it is told by its end.
    socket.on("error", () => {});
  }

  /**
   * Queues one message; to a bridge that is gone, nothing.
   * @param {number} _slot
   * @param {number} kind
   * @param {Buffer} body
   */
  send(_slot, kind, body, urgent = false) {
    if (body.length > MAX_BODY) {
      throw new RangeError(`message of ${body.length} octets; the contract allows ${MAX_BODY}`);
    }
    if (!this.#isClosed) this.#outbox.put(frame(kind === JSON_KIND ? TEXT : BINARY, body, this.masks), urgent);
  }

  /** Resolves when there is room again. */
  async drained() {
    await this.#outbox.drained();
  }

  /**
   * Says goodbye; nothing is said after it, and nothing of what was queued.
   * @param {number} code
   */
  part(code, reason = "") {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#outbox.forget();
    this.#socket.write(closeFrame(code, reason, this.masks));
  }

  /** Lets go of the connection once the goodbye is out. */
  async end() {
    this.#socket.end();
    const late = setTimeout(() => this.#socket.destroy(), LINGER_MS);
    // Read on, or the end of the other side is never noticed.
    this.#socket.resume();
    if (!this.#socket.destroyed) await new Promise((resolve) => this.#socket.once("close", resolve));
    clearTimeout(late);
  }

  /**
   * Takes what comes until the end; pings are answered. Gives the code to close with and what went wrong, if anything.
   * @param {Buffer} head what came with the upgrade
   * @param {(opcode: number, payload: Buffer) => void} take
   * @returns {Promise<{ code: number, reason: string, closed: string }>}
   */
  async heard(head, take) {
    const reader = new Reader(MAX_BODY, this.masks);
    const socket = this.#socket;
    return new Promise((resolve) => {
      const over = (/** @type {number} */ code, reason = "", closed = "") => {
        clearTimeout(silence);
        socket.removeListener("data", listen);
        resolve({ code, reason, closed });
      };
      const late = () => over(LATE, `nothing was heard, or no answer taken, for ${SILENT_MS / 1_000} s`);
      const silence = setTimeout(late, SILENT_MS);
      const listen = (/** @type {Buffer} */ data) => {
        silence.refresh();
        try {
          for (const { opcode, payload } of reader.feed(data)) {
            if (opcode === TEXT || opcode === BINARY) take(opcode, payload);
            else if (opcode === PING) this.#pong(payload);
            else if (opcode === CLOSE) {
              const code = closeCode(payload);
              return over(code, "", `${code} ${payload.toString("utf8", 2)}`.trimEnd());
            }
          }
        } catch (error) {
          if (error instanceof Violation) return over(error.code, error.message);
          if (error instanceof WireError) return over(BREACH, error.message);
          return over(BREACH, error instanceof Error ? error.message : String(error));
        }
      };
      socket.on("data", listen);
      socket.on("close", () => over(GOING_AWAY, "", "the connection was cut"));
      socket.on("end", () => over(GOING_AWAY, "", "the connection was cut"));
      if (head.length > 0) listen(head);
      socket.resume();
    });
  }

  /** @param {Buffer} payload */
  #pong(payload) {
    if (this.#isClosed) return;
    this.#socket.write(frame(PONG, payload, this.masks));
    if (this.#socket.writableLength > MAX_ANSWERS && !this.#socket.isPaused()) {
      this.#socket.pause();
      this.#socket.once("drain", () => this.#socket.resume());
    }
  }
}

/**
 * Holds the session that the bridge begins on a connection, to its end.
 * @param {import("./host.js").Host} host
 * @param {Connection} connection
 * @param {Buffer} head what came with the upgrade
 */
export async function converse(host, connection, head) {
  const slot = host.attach(connection);
  const take = (/** @type {number} */ opcode, /** @type {Buffer} */ payload) =>
    host.receive(opcode === TEXT ? JSON_KIND : AUDIO_KIND, slot, payload);
  const { code, reason } = await connection.heard(head, take);
  if (reason) console.error(`ringback: closed with ${code}: ${reason}`);
  // Before the session ends, or its `done` would tell the bridge that all is said.
  connection.part(code, reason);
  host.detach(slot, STOP_MS);
  await connection.end();
}
