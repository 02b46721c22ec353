// The transport of a module that bridges dial: a WebSocket server, one session a connection. Loads no module itself.

import { timingSafeEqual, createHash } from "node:crypto";
import { createServer } from "node:http";
import { Host } from "./host.js";
import { Connection, GOING_AWAY, STOP_MS, SUBPROTOCOL, converse } from "./line.js";
import { acceptKey, isKey } from "./websocket.js";

export const EXIT_OK = 0;
export const EXIT_USAGE = 64;
export const EXIT_UNAVAILABLE = 69;
export const EXIT_FAILED = 70;
export const TOKEN_VARIABLE = "RINGBACK_TOKEN";
/** Time for a whole request to come in. */
const HEAD_MS = 5_000;
const LOCAL = ["127.0.0.1", "::1", "localhost"];

/**
 * Why a request is no bridge's: status line, extra fields, and what a person should know.
 * @param {import("node:http").IncomingMessage} request
 * @param {string | undefined} token
 * @returns {[string, string, string] | undefined}
 */
function refusal(request, token) {
  const { headers, method } = request;
  const words = (/** @type {string | undefined} */ list) => (list ?? "").split(",").map((word) => word.trim());
  if (method !== "GET") return ["400 Bad Request", "", "a WebSocket begins with GET"];
  if (headers["sec-websocket-version"] !== "13") {
    return ["426 Upgrade Required", "Sec-WebSocket-Version: 13\r\n", "version 13 of WebSocket is spoken here"];
  }
  // Only a page in a browser sends it, and pages of others could reach a module on this machine.
  if (headers.origin !== undefined) return ["403 Forbidden", "", "modules are dialled by bridges, not from browsers"];
  if (token !== undefined && !hasToken(headers.authorization ?? "", token)) {
    return ["401 Unauthorized", "WWW-Authenticate: Bearer\r\n", "the bearer token is missing or wrong"];
  }
  if (!words(headers["sec-websocket-protocol"]).includes(SUBPROTOCOL)) {
    return ["400 Bad Request", "", `the subprotocol ${SUBPROTOCOL} is not offered`];
  }
  if (!isKey(headers["sec-websocket-key"])) {
    return ["400 Bad Request", "", "Sec-WebSocket-Key is missing or not 16 octets in base64"];
  }
  return undefined;
}

/**
 * @param {string} authorization
 * @param {string} token
 */
function hasToken(authorization, token) {
  const [scheme = "", given = ""] = authorization.split(/ +/, 2);
  const hash = (/** @type {string} */ text) => createHash("sha256").update(text).digest();
  return timingSafeEqual(hash(given), hash(token)) && scheme.toLowerCase() === "bearer";
}

/**
 * @param {any} definition
 * @param {import("../index.d.ts").ServeOptions} options
 */
export function serve(definition, options) {
  const { address, token, maxSessions, insecure = false } = options;
  const { host: hostName, port } = parseAddress(address);
  if (token === undefined && !insecure && !LOCAL.includes(hostName)) {
    process.stderr.write(
      `ringback: ${address} can be reached by others: set ${TOKEN_VARIABLE} to a bearer token, or say --insecure\n`,
    );
    process.exit(EXIT_USAGE);
  }
  /** @type {Set<Connection>} */
  const connections = new Set();
  const host = new Host(definition, undefined, { maxSessions });
  const server = createServer({ requestTimeout: HEAD_MS, headersTimeout: HEAD_MS, connectionsCheckingInterval: 1_000 });
  let isEnding = false;
  const end = async (/** @type {number} */ code) => {
    if (isEnding) return;
    isEnding = true;
    server.close();
    // Bridges dial again, somewhere else perhaps, and tell what was not acknowledged once more.
    for (const connection of connections) connection.part(GOING_AWAY, "the module's server ends");
    const ended = Promise.all([...connections].map((connection) => connection.end()));
    if (!(await host.close(STOP_MS))) console.error("ringback: a handler did not return in time");
    await ended;
    process.exit(code);
  };
  server.on("request", (_request, response) => {
    response.writeHead(426, { upgrade: "websocket", connection: "close", "content-type": "text/plain" });
    response.end(`here is a compute module; a Ringback bridge dials it as a WebSocket with ${SUBPROTOCOL}`);
  });
  server.on("upgrade", (request, socket, head) => {
    const refused = refusal(request, token);
    if (refused) {
      const [status, fields, reason] = refused;
      console.error(`ringback: ${request.socket.remoteAddress} was refused: ${status}: ${reason}`);
      socket.on("error", () => {});
      socket.end(
        `HTTP/1.1 ${status}\r\n${fields}Connection: close\r\nContent-Type: text/plain\r\n` +
          `Content-Length: ${Buffer.byteLength(reason)}\r\n\r\n${reason}`,
      );
      // Whoever does not close his side would keep the connection for ever.
      socket.resume();
      setTimeout(() => socket.destroy(), 1_000).unref();
      return;
    }
    socket.write(
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
        `Sec-WebSocket-Accept: ${acceptKey(request.headers["sec-websocket-key"] ?? "")}\r\n` +
        `Sec-WebSocket-Protocol: ${SUBPROTOCOL}\r\n\r\n`,
    );
    const connection = new Connection(socket);
    connections.add(connection);
    void converse(host, connection, head).finally(() => connections.delete(connection));
  });
  server.on("error", (error) => {
    console.error(`ringback: cannot listen on ${address}: ${error.message}`);
    process.exit(EXIT_UNAVAILABLE);
  });
  host.loaded.catch((error) => {
    console.error(error);
    void end(EXIT_FAILED);
  });
  process.on("SIGINT", () => void end(EXIT_OK));
  process.on("SIGTERM", () => void end(EXIT_OK));
  server.listen(port, hostName, () => {
    const bound = /** @type {import("node:net").AddressInfo} */ (server.address());
    const where = bound.family === "IPv6" ? `[${bound.address}]` : bound.address;
    console.log(`${host.settings.name}, ${calls(host)}: ws://${where}:${bound.port}/`);
  });
}

/**
 * How many sessions there may be, in words.
 * @param {Host} host
 */
export function calls(host) {
  const most = host.settings.maxSessions;
  return most === 1 ? "1 call at a time (maxSessions)" : `${most} calls at a time`;
}

/** @param {string} text */
function parseAddress(text) {
  const match = /^(.*):(\d{1,5})$/.exec(text);
  if (!match || Number(match[2]) > 65_535) throw new TypeError(`"${text}" is no address; write it as 127.0.0.1:9000`);
  return { host: (match[1] ?? "").replace(/^\[|\]$/g, ""), port: Number(match[2]) };
}
