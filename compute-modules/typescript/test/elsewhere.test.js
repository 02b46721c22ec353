// Modules as servers that bridges dial, and as workers that dial bridges: what the bridge's side of their connections sees.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { createServer as createTlsServer } from "node:tls";
import { fileURLToPath } from "node:url";
import { BINARY, CLOSE, PING, PONG, Reader, TEXT, acceptKey, closeCode, closeFrame, frame } from "../src/websocket.js";

const INDEX = fileURLToPath(new URL("../src/index.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "ringback-"));
after(() => rmSync(folder, { recursive: true }));
/** Tests give up after a while; nothing here should take a second. */
const limit = { timeout: 30_000 };
const KEY = "dGhlIHNhbXBsZSBub25jZQ==";
const WORKER = "ringback.v1.worker";
const LISTENER = `name: "listener", version: "1.2", rate: 8000, speaks: 8000, maxSessions: 2,
  onAudio(s, samples) { s.event("heard", { samples: samples.length, at: s.nowMs }); s.play(samples); },
  onStop(s) { console.log("stopped", s.stopReason); s.event("stopped", s.stopReason); }`;
let count = 0;

/** A module of these parts as a process; `told` waits for what it prints. */
class Process {
  stderr = "";
  #lines = [];
  #wake = () => {};

  constructor(module, words, env = {}) {
    count += 1;
    const path = join(folder, `m${count}.mjs`);
    writeFileSync(path, `import { run } from ${JSON.stringify(INDEX)};\nrun({ ${module} });`);
    this.process = spawn(process.execPath, [path, ...words], { env: { ...process.env, ...env } });
    let text = "";
    this.process.stdout.on("data", (data) => {
      const lines = (text + data).split("\n");
      text = lines.pop();
      this.#lines.push(...lines);
      this.#wake();
    });
    this.process.stderr.on("data", (data) => (this.stderr += data));
    this.exited = once(this.process, "close").then(([code]) => code);
    after(() => this.process.kill("SIGKILL"));
  }

  async told() {
    while (this.#lines.length === 0) {
      assert.equal(this.process.exitCode, null, this.stderr);
      await new Promise((resolve) => {
        this.#wake = resolve;
        void this.exited.then(resolve);
      });
    }
    return this.#lines.shift();
  }
}

/** A bridge's end of a connection. */
class Line {
  #arrived = [];
  #wake = () => {};
  #head = Buffer.alloc(0);

  constructor(socket, isClient) {
    this.socket = socket;
    this.isClient = isClient;
    const reader = new Reader(1 << 20, isClient);
    socket.on("error", () => {});
    socket.on("data", (data) => {
      if (this.head === undefined) {
        this.#head = Buffer.concat([this.#head, data]);
        const end = this.#head.indexOf("\r\n\r\n");
        if (end < 0) return;
        this.head = this.#head.subarray(0, end).toString();
        data = this.#head.subarray(end + 4);
      }
      if (this.head.startsWith("HTTP/1.1 4")) this.body = (this.body ?? "") + data;
      else this.#arrived.push(...reader.feed(data));
      this.#wake();
    });
    socket.on("close", () => {
      this.isOver = true;
      this.#wake();
    });
    after(() => socket.destroy());
  }

  /** Waits until there is something to see. */
  async #until(holds) {
    while (!holds()) {
      assert.ok(!this.isOver, "the connection is gone");
      await new Promise((resolve) => (this.#wake = resolve));
    }
  }

  async begun() {
    await this.#until(() => this.head !== undefined);
    return this;
  }

  field(name) {
    return new RegExp(`^${name}: (.*)$`, "im").exec(this.head)?.[1];
  }

  take() {
    this.socket.write(
      "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
        `Sec-WebSocket-Accept: ${acceptKey(this.field("sec-websocket-key"))}\r\n` +
        `Sec-WebSocket-Protocol: ${this.field("sec-websocket-protocol")}\r\n\r\n`,
    );
    return this;
  }

  refuse(status, body, fields = "") {
    this.socket.end(`HTTP/1.1 ${status}\r\n${fields}Content-Length: ${body.length}\r\n\r\n${body}`);
  }

  put(opcode, octets) {
    this.socket.write(frame(opcode, octets, this.isClient));
  }

  say(message) {
    this.put(TEXT, Buffer.from(JSON.stringify(message)));
  }

  sound(samples) {
    this.put(BINARY, Buffer.alloc(2 * samples));
  }

  begin(more = {}) {
    const pcm = [{ encoding: "pcm_s16le", rate: 8000 }];
    const offer = { tracks: [{ id: 0, role: "caller" }], in: pcm, out: pcm };
    this.say({ type: "start", v: 1, session: "s1", call: { id: "c", provider: "p" }, offer, ...more });
    return this.until("ready");
  }

  async next() {
    await this.#until(() => this.#arrived.length > 0);
    return this.#arrived.shift();
  }

  async until(type) {
    for (;;) {
      const { opcode, payload } = await this.next();
      if (opcode !== TEXT) continue;
      const message = JSON.parse(payload.toString());
      if (message.type === type) return message;
    }
  }

  async closed() {
    for (;;) {
      const { opcode, payload } = await this.next();
      if (opcode === CLOSE) return closeCode(payload);
    }
  }
}

/** A module that serves, and how to dial it. */
async function served(module = LISTENER, words = [], env = {}) {
  const child = new Process(module, ["--serve", "127.0.0.1:0", ...words], env);
  const told = await child.told();
  const port = Number(/:(\d+)\/$/.exec(told)[1]);
  const dial = async (fields = {}) => {
    const given = {
      Host: "module", Upgrade: "websocket", Connection: "keep-alive, Upgrade", "Sec-WebSocket-Version": "13",
      "Sec-WebSocket-Key": KEY, "Sec-WebSocket-Protocol": "other, ringback.v1", ...fields,
    };
    const socket = connect(port, "127.0.0.1");
    const head = Object.entries(given).filter(([, value]) => value !== undefined).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.write(`GET /m HTTP/1.1\r\n${head.join("")}\r\n`);
    return new Line(socket, true).begun();
  };
  return { child, told, dial };
}

/** A bridge where a module dials in, and the module. */
async function bridge(module = LISTENER, words = [], { tls, env = {} } = {}) {
  const lines = [];
  let wake = () => {};
  const listen = (socket) => {
    lines.push(new Line(socket, false));
    wake();
  };
  const server = tls ? createTlsServer(tls, listen) : createServer(listen);
  server.on("tlsClientError", () => {});
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  after(() => server.close());
  const url = `${tls ? "wss" : "ws"}://localhost:${server.address().port}/modules/stt`;
  const child = new Process(module, ["--connect", url, ...words], { RINGBACK_TOKEN: "s3cret", ...env });
  const accept = async () => {
    while (lines.length === 0) await new Promise((resolve) => (wake = resolve));
    return lines.shift().begun();
  };
  const registered = async () => {
    const line = (await accept()).take();
    line.register = await line.until("register");
    line.say({ type: "registered", worker: "w#1", max_sessions: 2, ping_ms: 5000, dead_ms: 15000 });
    return line;
  };
  const session = async (control, ticket = "t1") => {
    control.say({ type: "open", ticket });
    return (await accept()).take();
  };
  return { child, url, accept, registered, session, server, isIdle: () => lines.length === 0 };
}

const stop = { type: "stop", reason: "hangup", deadline_ms: 3000 };

test("a server goes from upgrade to done, and ends as going away", limit, async () => {
  const { child, told, dial } = await served();
  assert.match(told, /^listener, 2 calls at a time: ws:\/\/127\.0\.0\.1:/);
  const line = await dial();
  assert.match(line.head, /^HTTP\/1.1 101 /);
  assert.equal(line.field("sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
  assert.equal(line.field("sec-websocket-protocol"), "ringback.v1");
  assert.equal((await line.begin()).session, "s1");
  line.say({ type: "ping", t: 7 });
  assert.equal((await line.until("pong")).t, 7);
  line.put(PING, Buffer.from("life?"));
  const { opcode, payload } = await line.next();
  assert.deepEqual([opcode, payload.toString()], [PONG, "life?"]);
  line.sound(160);
  assert.deepEqual((await line.until("event")).data, { samples: 160, at: 20 });
  await line.until("audio.begin");
  assert.equal((await line.next()).payload.length, 320);
  const [two, three] = [await dial(), await dial()];
  await two.begin({ session: "s2" });
  three.say({ type: "start", v: 1 });
  assert.equal((await three.until("reject")).code, "busy");
  // One that is gone ends its session and no other.
  two.socket.destroy();
  assert.equal(await child.told(), "stopped gone");
  line.say(stop);
  assert.equal((await line.until("done")).stats.in_ms, 20);
  line.put(CLOSE, Buffer.from([0x03, 0xe8]));
  assert.equal(await line.closed(), 1000);
  const last = await dial();
  await last.begin();
  child.process.kill("SIGTERM");
  const { opcode: code, payload: reason } = await last.next();
  assert.deepEqual([code, closeCode(reason)], [CLOSE, 1001]);
  assert.equal(await child.exited, 0);
});

test("a server says why somebody may not come in", limit, async () => {
  const { dial } = await served(LISTENER, [], { RINGBACK_TOKEN: "s3cret" });
  const right = { Authorization: "Bearer s3cret" };
  for (const [fields, status] of [
    [right, 101],
    [{}, 401],
    [{ Authorization: "Bearer wrong" }, 401],
    [{ ...right, Origin: "https://example.com" }, 403],
    [{ ...right, "Sec-WebSocket-Protocol": undefined }, 400],
    [{ ...right, "Sec-WebSocket-Key": "short" }, 400],
    [{ ...right, "Sec-WebSocket-Version": "8" }, 426],
    [{ ...right, Upgrade: undefined }, 426],
  ]) {
    assert.equal(Number((await dial(fields)).head.slice(9, 12)), status, JSON.stringify(fields));
  }
  const open = new Process(LISTENER, ["--serve", "0.0.0.0:0"]);
  assert.equal(await open.exited, 64);
  assert.match(open.stderr, /RINGBACK_TOKEN/);
  assert.equal(await new Process(LISTENER, ["--serve", "nowhere"]).exited, 64);
});

test("a server says by the code what was wrong", limit, async () => {
  const { dial } = await served();
  for (const [octets, code] of [
    [frame(TEXT, Buffer.from("hello"), true), 4002],
    [frame(TEXT, Buffer.from([0x22, 0xff, 0x22]), true), 1007],
    [frame(0x3, Buffer.alloc(0), true), 1002],
    [frame(0x0, Buffer.alloc(0), true), 1002],
    [frame(TEXT, Buffer.from("{}")), 1002],
    [frame(PING, Buffer.alloc(126), true), 1002],
    [frame(BINARY, Buffer.alloc(262_145), true).subarray(0, 20), 1009],
  ]) {
    const line = await dial();
    line.socket.write(octets);
    assert.equal(await line.closed(), code);
  }
});

test("a worker goes from register to the end of a session", limit, async () => {
  const { child, url, registered, session } = await bridge(LISTENER, ["--max-sessions", "3"]);
  const control = await registered();
  assert.match(control.head, /^GET \/modules\/stt HTTP\/1.1\r\n/);
  assert.equal(control.field("authorization"), "Bearer s3cret");
  assert.equal(control.field("sec-websocket-protocol"), WORKER);
  const { module, version, max_sessions } = control.register;
  assert.deepEqual([module, version, max_sessions], ["listener", "1.2", 3]);
  assert.equal(await child.told(), `listener, 3 calls at a time: ${url} as w#1`);
  assert.deepEqual(await control.until("load"), { type: "load", sessions: 0 });
  control.say({ type: "ping", t: 7 });
  assert.equal((await control.until("pong")).t, 7);
  control.say({ type: "of.a.later.version" });
  const line = await session(control);
  assert.equal(line.field("authorization"), "Bearer t1");
  assert.equal(line.field("sec-websocket-protocol"), "ringback.v1");
  line.put(PING, Buffer.from("idle?"));
  assert.equal((await line.next()).opcode, PONG);
  await line.begin();
  assert.equal((await control.until("load")).sessions, 1);
  line.sound(160);
  assert.deepEqual((await line.until("event")).data, { samples: 160, at: 20 });
  await line.until("audio.begin");
  assert.equal((await line.next()).payload.length, 320);
  line.say(stop);
  assert.equal((await line.until("event")).data, "hangup");
  await line.until("done");
  line.socket.write(closeFrame(1000));
  assert.equal(await line.closed(), 1000);
  assert.equal((await control.until("load")).sessions, 0);
});

test("a worker dials again, says what it has, and what it has goes on", limit, async () => {
  const { accept, registered, session } = await bridge(`${LISTENER}, currentLoad: () => 7`);
  (await accept()).refuse("503 Service Unavailable", "no capacity", "Retry-After: 1\r\n");
  const refused = performance.now();
  const control = await registered();
  assert.ok(performance.now() - refused > 900);
  assert.equal((await control.until("load")).load, 1);
  const line = await session(control);
  await line.begin();
  control.socket.destroy();
  const again = await registered();
  assert.equal((await again.until("load")).sessions, 1);
  line.sound(160);
  assert.equal((await line.until("event")).data.samples, 160);
  again.say({ type: "open", ticket: "t2" });
  (await accept()).refuse("401 Unauthorized", "");
  const other = await session(again, "t3");
  await other.begin({ session: "s2" });
  // What no bridge says ends that connection.
  again.put(TEXT, Buffer.from("hello"));
  assert.equal(await again.closed(), 4002);
});

test("a signal lets a worker's sessions end and takes no more", limit, async () => {
  const { child, registered, session } = await bridge();
  const control = await registered();
  const [idle, line] = [await session(control, "t1"), await session(control, "t2")];
  await line.begin();
  child.process.kill("SIGTERM");
  assert.equal((await control.until("going_away")).in_ms, 20_000);
  idle.socket.write(closeFrame(1001));
  assert.equal(await idle.closed(), 1001);
  line.sound(160);
  assert.equal((await line.until("event")).data.samples, 160);
  line.say(stop);
  await line.until("done");
  line.socket.write(closeFrame(1000));
  assert.equal(await control.closed(), 1000);
  assert.equal(await child.exited, 0);
});

test("what does not end in time is for another worker", limit, async () => {
  for (const again of [false, true]) {
    const { child, registered, session } = await bridge(LISTENER, ["--drain-seconds", again ? "60" : "0.3"]);
    const control = await registered();
    const line = await session(control);
    await line.begin();
    child.process.kill("SIGTERM");
    await control.until("going_away");
    if (again) child.process.kill("SIGTERM");
    // No `done`, which would say that all is said.
    const { opcode, payload } = await line.next();
    assert.deepEqual([opcode, closeCode(payload)], [CLOSE, 1001]);
    assert.equal(await child.exited, 0);
  }
});

test("a worker that is not let in, or cannot load its module, says so", limit, async () => {
  const refused = await bridge();
  (await refused.accept()).refuse("401 Unauthorized", "authentication failed");
  assert.equal(await refused.child.exited, 69);
  assert.match(refused.child.stderr, /401 authentication failed/);
  const broken = await bridge('onLoad() { throw new Error("no model"); }');
  assert.equal(await broken.child.exited, 70);
  assert.ok(broken.isIdle());
  for (const url of ["http://localhost/x", "nonsense"]) {
    assert.equal(await new Process(LISTENER, ["--connect", url]).exited, 64, url);
  }
});

test("by TLS a worker tells its token only to whom it can trust", limit, async (t) => {
  const [key, certificate] = [join(folder, "key.pem"), join(folder, "ca.pem")];
  const made = spawnSync("openssl", [
    "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
    "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate,
  ]);
  if (made.status !== 0) return t.skip("openssl, which makes the certificate, is not here");
  const tls = { key: readFileSync(key), cert: readFileSync(certificate) };
  const trusting = await bridge(LISTENER, ["--ca-file", certificate], { tls });
  const control = await trusting.registered();
  assert.equal(control.field("authorization"), "Bearer s3cret");
  await (await trusting.session(control)).begin();
  const wary = await bridge(LISTENER, [], { tls });
  await once(wary.server, "tlsClientError");
  assert.ok(wary.isIdle());
});

test("messages are read however they are cut", () => {
  const sizes = [0, 1, 125, 126, 65_535, 65_536];
  for (const masks of [false, true]) {
    const octets = Buffer.concat(sizes.map((size) => frame(BINARY, Buffer.alloc(size, 7), masks)));
    for (const step of [1, 7, 1000, octets.length]) {
      const reader = new Reader(1 << 18, !masks);
      const found = [];
      for (let at = 0; at < octets.length; at += step) found.push(...reader.feed(octets.subarray(at, at + step)));
      assert.deepEqual(found.map(({ payload }) => payload.length), sizes);
      assert.ok(found.every(({ payload }) => payload.every((octet) => octet === 7)));
    }
  }
  assert.equal(closeFrame(1000, "ü".repeat(100)).length, 2 + 124);
});
