// The transport of a module that dials bridges and waits there for sessions: nothing here has to be reachable. Loads no module itself.
//
// It registers on one connection, and opens another for each session when it is told to, with the ticket it is given for that.

import { readFileSync } from "node:fs";
import * as http from "node:http";
import * as https from "node:https";
import { Host } from "./host.js";
import { Connection, GOING_AWAY, NORMAL, STOP_MS, SUBPROTOCOL, converse } from "./line.js";
import { EXIT_FAILED, EXIT_OK, EXIT_UNAVAILABLE } from "./server.js";
import { TEXT, acceptKey, newKey } from "./websocket.js";
import { JSON_KIND, WireError, dump, load } from "./wire.js";

const WORKER_SUBPROTOCOL = "ringback.v1.worker";
/** Time for a connection and its upgrade. */
const CONNECT_MS = 10_000;
/** Pauses before a bridge is dialled again: doubled each time, with a quarter of chance. */
const FIRST_PAUSE_MS = 200;
const MAX_PAUSE_MS = 10_000;
/** Time for sessions to end after SIGTERM: what Kubernetes gives a pod, less a little. */
export const DRAIN_MS = 20_000;
/** A load that the module tells is asked for this often, */
const LOAD_MS = 2_000;
/** and a number of sessions that changes is told no more often than this. */
const REPORT_MS = 200;
/** Connections that a bridge may ask for beyond the sessions that are taken at once. */
const MORE_CONNECTIONS = 8;
const MAX_REASON = 2_048;

/** The server did not upgrade: its HTTP status, 0 if what it said is no answer, and what it said. */
class Declined extends Error {
  /**
   * @param {number} status
   * @param {string} reason
   */
  constructor(status, reason, retryAfterMs = 0) {
    super(status ? `${status} ${reason}` : reason);
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Where to dial, and as whom. */
class Bridge {
  #url;
  #ca;

  /**
   * @param {string} url
   * @param {string | undefined} token
   * @param {string | undefined} caFile
   */
  constructor(url, token, caFile) {
    const parsed = URL.canParse(url) ? new URL(url) : undefined;
    if (!parsed || !["ws:", "wss:"].includes(parsed.protocol) || !parsed.hostname) {
      throw new TypeError(`"${url}" is no URL of a bridge; write it as wss://bridge.example/modules/NAME`);
    }
    if (caFile !== undefined && parsed.protocol === "ws:") {
      throw new TypeError("a caFile is for wss:// only: by ws:// no certificate is shown");
    }
    this.#url = parsed;
    this.#ca = caFile === undefined ? undefined : readFileSync(caFile);
    this.url = url;
    this.token = token;
    this.isOpenToAll = parsed.protocol === "ws:" && !["127.0.0.1", "[::1]", "localhost"].includes(parsed.hostname);
  }

  /**
   * A connection that speaks `subprotocol`, and what came with its upgrade. Throws `Declined` or what the system says.
   * @param {string} subprotocol
   * @param {string | undefined} bearer
   * @returns {Promise<{ connection: Connection, head: Buffer }>}
   */
  async dial(subprotocol, bearer) {
    const key = newKey();
    const { protocol, hostname, port, pathname, search } = this.#url;
    const isSecure = protocol === "wss:";
    const options = {
      host: hostname.replace(/^\[|\]$/g, ""),
      port: port || (isSecure ? 443 : 80),
      path: pathname + search,
      headers: {
        Connection: "Upgrade",
        Upgrade: "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Protocol": subprotocol,
        ...(bearer === undefined ? {} : { Authorization: `Bearer ${bearer}` }),
      },
      agent: false,
      ...(this.#ca === undefined ? {} : { ca: this.#ca }),
    };
    return new Promise((resolve, reject) => {
      const request = (isSecure ? https : http).request(options);
      const late = setTimeout(() => request.destroy(new Error("no answer in time")), CONNECT_MS);
      const over = (/** @type {Error} */ error) => {
        clearTimeout(late);
        request.destroy();
        reject(error);
      };
      request.on("error", over);
      request.on("response", (response) => {
        let body = "";
        response.setEncoding("utf8").on("data", (text) => (body = (body + text).slice(0, MAX_REASON)));
        const seconds = Number(response.headers["retry-after"] ?? 0) || 0;
        const reason = () => body.trim() || (response.statusMessage ?? "");
        response.on("close", () => over(new Declined(response.statusCode ?? 0, reason(), seconds * 1_000)));
      });
      request.on("upgrade", (response, socket, head) => {
        clearTimeout(late);
        const { "sec-websocket-accept": accept, "sec-websocket-protocol": chosen, upgrade = "" } = response.headers;
        const isRight = accept === acceptKey(key) && chosen === subprotocol && upgrade.toLowerCase() === "websocket";
        if (!isRight || response.headers["sec-websocket-extensions"] !== undefined) {
          socket.destroy();
          return reject(new Declined(0, `the answer does not agree on a WebSocket with ${subprotocol}`));
        }
        resolve({ connection: new Connection(socket, true), head });
      });
      request.end();
    });
  }
}

/** Waits at bridges for sessions of one module. */
class Worker {
  /** @type {Set<Connection>} */
  #sessions = new Set();
  #opening = 0;
  #isLeaving = false;
  #hurries = false;
  #drainMs;
  /** Called when something changes that others wait for. */
  #wakes = new Set();
  code = EXIT_OK;

  /**
   * @param {any} definition
   * @param {number | undefined} maxSessions
   * @param {number} drainMs
   */
  constructor(definition, maxSessions, drainMs) {
    this.#drainMs = drainMs;
    this.definition = definition;
    this.host = new Host(definition, undefined, { maxSessions, onChange: () => this.#wake() });
  }

  /**
   * Waits for sessions until a signal or a failure; the exit code.
   * @param {Bridge[]} bridges
   */
  async run(bridges) {
    const leave = () => {
      // The first signal lets sessions end, the second does not.
      this.#hurries = this.#isLeaving;
      this.#isLeaving = true;
      this.#wake();
    };
    process.on("SIGTERM", leave);
    process.on("SIGINT", leave);
    try {
      // Sessions come at once when it is registered, so it has to be ready for them.
      await Promise.race([this.host.loaded, this.#until(() => this.#isLeaving)]);
      await Promise.all(bridges.map((bridge) => this.#keep(bridge)));
    } catch (error) {
      console.error(error);
      this.code = EXIT_FAILED;
    }
    // Before the sessions end, or their `done` would tell the bridge that all is said: another worker takes them up.
    for (const connection of this.#sessions) connection.part(GOING_AWAY, "the worker ends");
    const ended = Promise.all([...this.#sessions].map((connection) => connection.end()));
    if (!(await this.host.close(STOP_MS))) console.error("ringback: a handler did not return in time");
    await ended;
    return this.code;
  }

  #wake() {
    for (const wake of [...this.#wakes]) wake();
  }

  /**
   * Resolves when this holds, or after so long.
   * @param {() => boolean} holds
   * @param {number} [ms]
   */
  async #until(holds, ms) {
    if (holds()) return;
    await new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#wakes.delete(look);
        resolve(undefined);
      };
      const timer = ms === undefined ? undefined : setTimeout(done, ms);
      const look = () => void (holds() && done());
      this.#wakes.add(look);
    });
  }

  /**
   * Is registered with a bridge for as long as this process wants sessions.
   * @param {Bridge} bridge
   */
  async #keep(bridge) {
    let pause = FIRST_PAUSE_MS;
    let wasIn = false;
    while (!this.#isLeaving) {
      const since = performance.now();
      let least = 0;
      try {
        wasIn = (await this.#register(bridge)) || wasIn;
      } catch (error) {
        say(`${bridge.url}: ${error instanceof Declined ? error.message : `cannot connect: ${reasonOf(error)}`}`);
        if (error instanceof Declined) {
          least = Math.min(error.retryAfterMs, 60_000);
          const isFinal = error.status >= 400 && error.status < 500 && ![408, 425, 429].includes(error.status);
          if (!wasIn && isFinal) {
            // Nothing that a second try would mend; who was in before is let in again when its bridge has been set right.
            this.code ||= EXIT_UNAVAILABLE;
            return;
          }
        }
      }
      if (performance.now() - since > MAX_PAUSE_MS) pause = FIRST_PAUSE_MS;
      if (!this.#isLeaving) await this.#until(() => this.#isLeaving, Math.max(pause * (0.75 + Math.random() / 4), least));
      pause = Math.min(pause * 2, MAX_PAUSE_MS);
    }
  }

  /**
   * Registers and serves until the connection ends; whether it ever was taken.
   * @param {Bridge} bridge
   */
  async #register(bridge) {
    const { connection, head } = await bridge.dial(WORKER_SUBPROTOCOL, bridge.token);
    connection.send(0, JSON_KIND, dump(this.host.registration()));
    let isIn = false;
    let isOver = false;
    const heard = connection.heard(head, (opcode, payload) => {
      if (opcode !== TEXT) throw new WireError("sound, on the connection on which a worker registers");
      const message = load(payload);
      if (message.type === "registered") {
        if (!isIn) void this.#report(connection, () => isOver);
        isIn = true;
        const { name, maxSessions } = this.host.settings;
        const calls = maxSessions === 1 ? "1 call" : `${maxSessions} calls`;
        console.log(`${name}, ${calls} at a time: ${bridge.url} as ${message.worker}`);
      } else if (message.type === "ping") {
        connection.send(0, JSON_KIND, dump({ type: "pong", t: message.t ?? 0 }), true);
      } else if (message.type === "open") {
        void this.#session(bridge, String(message.ticket));
      }
    });
    const ended = heard.finally(() => {
      isOver = true;
      this.#wake();
    });
    await this.#until(() => isOver || this.#isLeaving);
    if (!isOver) await this.#sayGoodbye(connection, () => isOver);
    if (isOver) {
      const { code, reason, closed } = await ended;
      if (!this.#isLeaving) say(`${bridge.url}: ${reason || `closed with ${closed}`}`);
      connection.part(reason ? code : NORMAL, reason);
    } else {
      connection.part(NORMAL);
    }
    await connection.end();
    isOver = true;
    this.#wake();
    return isIn;
  }

  /**
   * Tells how busy this process is whenever that changes.
   * @param {Connection} connection
   * @param {() => boolean} isOver
   */
  async #report(connection, isOver) {
    let told = "";
    while (!isOver()) {
      const sessions = this.host.sessions;
      /** @type {{ type: string, sessions: number, load?: number }} */
      const report = { type: "load", sessions };
      const load = await this.#load();
      if (load !== undefined) report.load = load;
      const text = JSON.stringify(report);
      if (text !== told && !isOver()) connection.send(0, JSON_KIND, dump(report));
      told = text;
      await this.#until(isOver, REPORT_MS);
      const changed = () => isOver() || this.host.sessions !== sessions;
      await this.#until(changed, this.definition.currentLoad ? LOAD_MS : undefined);
    }
  }

  async #load() {
    if (!this.definition.currentLoad) return undefined;
    try {
      const load = Number(await this.definition.currentLoad());
      return Number.isNaN(load) ? undefined : Math.min(1, Math.max(0, load));
    } catch (error) {
      say(`currentLoad failed: ${reasonOf(error)}`);
      return undefined;
    }
  }

  /**
   * No more sessions; those that are here may end.
   * @param {Connection} connection
   * @param {() => boolean} isOver
   */
  async #sayGoodbye(connection, isOver) {
    connection.send(0, JSON_KIND, dump({ type: "going_away", in_ms: this.#drainMs }));
    // The bridge closes connections that are idle, and those whose session is over.
    const done = () => this.#hurries || (isOver() && this.#sessions.size === 0) || (this.host.sessions === 0 && this.#sessions.size === 0);
    await this.#until(done, this.#drainMs);
  }

  /**
   * Opens a connection and holds a session on it.
   * @param {Bridge} bridge
   * @param {string} ticket
   */
  async #session(bridge, ticket) {
    if (this.#sessions.size + this.#opening >= this.host.settings.maxSessions + MORE_CONNECTIONS) {
      return say(`${bridge.url}: asks for more connections than it may have sessions`);
    }
    this.#opening += 1;
    let dialled;
    try {
      dialled = await bridge.dial(SUBPROTOCOL, ticket);
    } catch (error) {
      return say(`${bridge.url}: no connection for a session: ${reasonOf(error)}`);
    } finally {
      this.#opening -= 1;
    }
    const { connection, head } = dialled;
    this.#sessions.add(connection);
    await converse(this.host, connection, head);
    this.#sessions.delete(connection);
    this.#wake();
  }
}

/** @param {unknown} error */
function reasonOf(error) {
  if (!(error instanceof Error)) return String(error);
  // Of several addresses that were tried, the message is empty.
  return error.message || String(Reflect.get(error, "code") ?? error.name);
}

/** @param {string} text */
function say(text) {
  console.error(`ringback: ${text}`);
}

/**
 * @param {any} definition
 * @param {import("../index.d.ts").ConnectOptions} options
 */
export function connect(definition, options) {
  const { url, token, maxSessions, caFile, drainMs = DRAIN_MS } = options;
  const urls = typeof url === "string" ? [url] : [...url];
  const bridges = urls.map((each) => new Bridge(each, token, caFile));
  if (bridges.length === 0) throw new TypeError("no URL of a bridge");
  if (token !== undefined && bridges.some((bridge) => bridge.isOpenToAll)) {
    say("by ws:// the token and the calls can be read on the way; use wss://");
  }
  const worker = new Worker(definition, maxSessions, drainMs);
  void worker.run(bridges).then((code) => process.exit(code));
}

