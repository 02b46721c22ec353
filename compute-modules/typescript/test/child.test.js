// Modules as the children they are: what the bridge's side of their pipes sees.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { runCommand } from "../src/testing.js";
import { AUDIO_KIND, FrameReader, JSON_KIND, dump, frame, load, packAudio, unpackAudio } from "../src/wire.js";

const INDEX = fileURLToPath(new URL("../src/index.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "ringback-"));
after(() => rmSync(folder, { recursive: true }));
let count = 0;

/** A file with this module in it, as a command. */
function script(body) {
  count += 1;
  const path = join(folder, `m${count}.mjs`);
  writeFileSync(path, `import { run, Reject } from ${JSON.stringify(INDEX)};\n${body}`);
  return [process.execPath, path];
}

const types = (said) => said.map((message) => message.type);
const events = (said) => said.filter((message) => message.type === "event").map(({ name, data }) => [name, data]);

/** A child that is driven message by message. */
class Child {
  arrived = [];
  stderr = "";
  #wake = () => {};

  constructor(body, env = {}) {
    const [program, path] = script(body);
    this.process = spawn(program, [path], { env: { ...process.env, ...env } });
    const reader = new FrameReader();
    this.process.stdout.on("data", (data) => {
      for (const { kind, slot, body } of reader.feed(data)) {
        this.arrived.push({ slot, ...(kind === JSON_KIND ? load(body) : { type: "sound", octets: body.length, body }) });
      }
      this.#wake();
    });
    this.process.stderr.on("data", (data) => (this.stderr += data));
    this.process.stdin.on("error", () => {});
    this.exited = once(this.process, "close").then(([code]) => code);
  }

  raw(octets) {
    this.process.stdin.write(octets);
  }

  say(message, slot = 1) {
    this.raw(frame(JSON_KIND, slot, dump(message)));
  }

  sound(samples = new Int16Array(160), slot = 1) {
    this.raw(frame(AUDIO_KIND, slot, new Uint8Array(samples.buffer)));
  }

  start(more = {}, slot = 1) {
    const pcm = [{ encoding: "pcm_s16le", rate: 8000 }];
    const offer = { tracks: [{ id: 0, role: "caller" }], in: pcm, out: pcm };
    this.say({ type: "start", v: 1, session: `s${slot}`, call: { id: "c", provider: "p" }, offer, ...more }, slot);
  }

  async until(type) {
    for (;;) {
      const index = this.arrived.findIndex((message) => message.type === type);
      if (index >= 0) return this.arrived.splice(0, index + 1).at(-1);
      assert.equal(this.process.exitCode, null, this.stderr);
      await new Promise((resolve) => {
        this.#wake = resolve;
        void this.exited.then(resolve);
      });
    }
  }
}

/** Tests give up after a while; nothing here should take a second. */
const limit = { timeout: 30_000 };

test("a session goes from register to done, and the process ends with 0", limit, async () => {
  const { said, played, code } = await runCommand(
    script(`run({ name: "parrot", version: "2", rate: 8000, speaks: 8000,
      onStart(s) { s.play(new Int16Array(80)); s.mark("greeted"); },
      onAudio(s, samples) { s.play(samples); },
      onMark(s, mark) { s.event("mark", mark.status); },
      onDtmf(s, dtmf) { s.hangup(dtmf.digit, { after: "playback" }); },
      onStop(s) { s.transcript("bye"); } });`),
    { rate: 8000, samples: new Int16Array(1600).fill(7), messages: [[100, { type: "dtmf", digit: "#" }]] },
  );
  assert.equal(code, 0);
  const pcm = { encoding: "pcm_s16le", rate: 8000 };
  assert.deepEqual(said[0], {
    type: "register", module: "parrot", version: "2", v: [1], kinds: ["agent", "tap"], max_sessions: 1, in: [pcm],
  });
  assert.deepEqual(said[1].accept, { in: { ...pcm, frame_ms: 20 }, out: { ...pcm, pace: "clip" }, tracks: [0], framing: "raw" });
  assert.deepEqual(said[1].want, ["dtmf"]);
  assert.deepEqual(types(said).slice(2, 4), ["audio.begin", "mark"]);
  assert.deepEqual(events(said), [["mark", "played"]]);
  assert.equal(said.find(({ type }) => type === "hangup").after, "playback");
  assert.equal(said.find(({ type }) => type === "ack").in_ms, 200);
  assert.equal(played.length, 2 * (80 + 1600));
  const { id, start_ms, end_ms, final } = said.find(({ type }) => type === "transcript");
  assert.deepEqual({ id, start_ms, end_ms, final }, { id: "u1-200", start_ms: 200, end_ms: 200, final: true });
  assert.deepEqual(said.at(-1).stats, { in_ms: 200, handled_ms: 200, dropped_ms: 0 });
});

test("guesses and the final text after them share an id and a begin", limit, async () => {
  const { said } = await runCommand(
    script(`run({ onAudio(s) { if (s.nowMs === 40) s.transcript("hi", { final: false }); if (s.nowMs === 80) s.transcript("hi there"); } });`),
    { samples: new Int16Array(1600) },
  );
  const [guess, final] = said.filter(({ type }) => type === "transcript");
  assert.equal(guess.id, final.id);
  assert.deepEqual([guess.start_ms, final.start_ms, final.end_ms], [40, 40, 80]);
});

test("each session has a state of its own, and several fit one process", limit, async () => {
  const child = new Child(`run({ rate: 8000, maxSessions: 2, state: () => ({ heard: 0 }),
    onAudio(s, samples) { s.state.heard += samples.length; }, onStop(s) { s.event("heard", s.state.heard); } });`);
  for (const slot of [1, 2, 3]) child.start({}, slot);
  assert.deepEqual((({ slot, code }) => ({ slot, code }))(await child.until("reject")), { slot: 3, code: "busy" });
  child.sound(new Int16Array(160), 2);
  child.sound(new Int16Array(80), 1);
  child.say({ type: "stop", reason: "hangup", deadline_ms: 3000 }, 2);
  assert.equal((await child.until("event")).data, 160);
  await child.until("done");
  child.process.stdin.end();
  assert.equal((await child.until("event")).data, 80);
  assert.equal(await child.exited, 0);
});

test("a session resumes where it was, with the epoch that is current", limit, async () => {
  const child = new Child(`run({ rate: 8000, speaks: 8000, framing: "hdr16", onDtmf(s) { s.event("at", [s.nowMs, s.epoch, s.resumed]); } });`);
  child.start({ resume: { from_ms: 41_200, epoch: 3 } });
  child.say({ type: "dtmf", digit: "1" });
  assert.deepEqual((await child.until("event")).data, [41_200, 3, true]);
  child.process.stdin.end();
  await child.exited;
});

test("who is interrupted learns it from play, and is heard again once it was told", limit, async () => {
  const child = new Child(`run({ rate: 8000, speaks: 8000,
    async onDtmf(s) { while (s.play(new Int16Array(160))) await new Promise((r) => setTimeout(r, 5)); s.event("interrupted"); },
    onCleared(s) { s.event("again", s.play(new Int16Array(160))); } });`);
  child.start();
  child.say({ type: "dtmf", digit: "1" });
  assert.equal((await child.until("audio.begin")).epoch, 0);
  child.say({ type: "cleared", epoch: 0, played_ms: 20, discarded_ms: 0 });
  assert.equal((await child.until("event")).name, "interrupted");
  assert.equal((await child.until("audio.begin")).epoch, 1);
  assert.equal((await child.until("event")).data, true);
  child.process.stdin.end();
  await child.exited;
});

test("a clear of its own begins the next epoch at once", limit, async () => {
  const child = new Child(`run({ rate: 8000, speaks: 8000, onDtmf(s) { s.play(new Int16Array(8)); s.clear(); s.play(new Int16Array(8)); s.endOfAudio(); } });`);
  child.start();
  child.say({ type: "dtmf", digit: "1" });
  assert.equal((await child.until("audio.end")).epoch, 1);
  child.process.stdin.end();
  await child.exited;
});

test("calls of words are spoken to, and declined by who only hears", limit, async () => {
  const polite = await runCommand(
    script(`run({ onText(s, text) { s.event("said", [s.say("You said " + text.text), s.playUrl("https://example.com/a.wav", { loop: 0 })]); } });`),
    { words: ["hello"] },
  );
  const [{ text, last, epoch }] = polite.said.filter(({ type }) => type === "say");
  assert.deepEqual({ text, last, epoch }, { text: "You said hello", last: true, epoch: 0 });
  assert.equal(polite.said.find(({ type }) => type === "play").loop, 0);
  assert.deepEqual(events(polite.said), [["said", [true, true]]]);
  const deaf = await runCommand(script(`run({ onAudio() {} });`), { words: ["hello"] });
  assert.equal(deaf.said.find(({ type }) => type === "reject").code, "unsupported_format");
});

test("a session is declined with the module's own reason", limit, async () => {
  const { said, code } = await runCommand(
    script(`run({ onStart() { throw new Reject("bad_config", "no language", { retryable: true, retry_after_ms: 5 }); } });`),
  );
  assert.deepEqual(said[1], { type: "reject", code: "bad_config", message: "no language", retryable: true, retry_after_ms: 5 });
  assert.equal(code, 0);
});

test("pings are answered while a module loads, and while its handlers are behind", limit, async () => {
  const child = new Child(`run({ rate: 8000, onLoad: () => new Promise((r) => process.once("SIGUSR2", r)),
    onAudio() { const until = performance.now() + 30; while (performance.now() < until); } });`);
  child.start();
  child.say({ type: "ping", t: 7 }, 0);
  assert.deepEqual(await child.until("pong"), { slot: 0, type: "pong", t: 7 });
  assert.deepEqual(child.arrived, []);
  child.process.kill("SIGUSR2");
  // That it has loaded what it needs is what registering says.
  await child.until("register");
  await child.until("ready");
  for (let n = 0; n < 60; n += 1) child.sound();
  child.say({ type: "ping", t: 8 }, 0);
  await child.until("pong");
  const acks = child.arrived.filter(({ type }) => type === "ack").length;
  assert.ok(acks < 6, `answered before the sound that waited was dealt with: ${acks} acks of 6`);
  child.process.kill("SIGKILL");
  await child.exited;
});

test("private parts and the caller's consent are asked for and told", limit, async () => {
  const child = new Child(`let go; run({
    onPrivate(s, part) { s.event("private", [part.state, part.at_ms]); },
    onConsent(s, consent) { s.event("consent", [consent.given, consent.by, consent.how, consent.at_ms]); } });`);
  child.start();
  assert.deepEqual((await child.until("ready")).want, ["private", "consent"]);
  child.say({ type: "private", state: "began", at_ms: 40 });
  assert.deepEqual((await child.until("event")).data, ["began", 40]);
  child.say({ type: "consent", given: true, by: "ivr", how: "key 1", at_ms: 60 });
  assert.deepEqual((await child.until("event")).data, [true, "ivr", "key 1", 60]);
  child.say({ type: "stop", reason: "hangup", deadline_ms: 3000 });
  await child.until("done");
  child.process.stdin.end();
  await child.exited;
});

test("sound too old is dropped and told", limit, async () => {
  const child = new Child(`let go; run({ rate: 8000, maxQueueMs: 100, autoAck: false,
    async onAudio(s) { s.event("at", s.nowMs); while (s.heardMs < 400) await new Promise((r) => setTimeout(r, 1)); },
    onGap(s, gap) { s.event("gap", [gap.from_ms, gap.to_ms, gap.reason]); } });`);
  child.start();
  child.sound();
  assert.equal((await child.until("event")).data, 20);
  for (let n = 0; n < 19; n += 1) child.sound();
  assert.deepEqual((await child.until("event")).data, [20, 300, "backpressure"]);
  assert.equal((await child.until("event")).data, 320);
  assert.equal((await child.until("log")).fields.dropped_ms, 280);
  child.say({ type: "stop", reason: "hangup", deadline_ms: 3000 });
  assert.deepEqual((await child.until("done")).stats, { in_ms: 400, handled_ms: 120, dropped_ms: 280 });
  child.process.stdin.end();
  await child.exited;
});

test("what is printed goes to standard error, before run and after", limit, async () => {
  const { said, stderr } = await runCommand(
    script(`console.log("loading"); process.stdout.write("early\\n");
      run({ onStart(s) { console.log("from console"); process.stdout.write("from stdout\\n"); console.table([1]); } });`),
  );
  assert.equal(said.at(-1).type, "done");
  for (const line of ["loading\n", "early\n", "from console\n", "from stdout\n", "index"]) assert.ok(stderr.includes(line), stderr);
});

test("an exception is told and the session goes on, ten in a row end it", limit, async () => {
  const child = new Child(`run({ rate: 8000, onAudio(s) { if (s.nowMs !== 40) throw new Error("bad sample"); s.event("fine"); } });`);
  child.start();
  for (let n = 0; n < 12; n += 1) child.sound();
  const { code, message, fatal } = await child.until("error");
  assert.deepEqual({ code, message, fatal }, { code: "exception", message: "onAudio: Error: bad sample", fatal: false });
  await child.until("event");
  const fatals = [];
  while (!fatals.at(-1)) fatals.push((await child.until("error")).fatal);
  assert.equal(fatals.length, 10);
  child.process.stdin.end();
  assert.equal(await child.exited, 0);
  assert.match(child.stderr, /session s1: onAudio failed/);
});

test("garbage ends the process with 65 and is told", limit, async () => {
  const odd = [Buffer.from("GET / HTTP/1.1\r\n\r\n"), frame(JSON_KIND, 1, Buffer.from("hello")), frame(AUDIO_KIND, 0, Buffer.alloc(2))];
  for (const garbage of [...odd, Buffer.from([1, 0, 4, 0, 1, 0, 1, 0])]) {
    const child = new Child("run({ rate: 8000, onAudio() {} });");
    await child.until("register");
    child.raw(garbage);
    assert.equal(await child.exited, 65, child.stderr);
    assert.match(child.stderr, /ringback: standard input: /);
  }
});

test("half a sample is refused", limit, async () => {
  const child = new Child("run({ rate: 8000, onAudio() {} });");
  child.start();
  child.raw(frame(AUDIO_KIND, 1, Buffer.from("abc")));
  assert.equal(await child.exited, 65);
  assert.match(child.stderr, /3 octets of sound/);
});

test("a module that cannot load ends with 70 and says why", limit, async () => {
  const child = new Child(`run({ onLoad() { throw new Error("no such model"); } });`);
  assert.equal(await child.exited, 70);
  assert.match(child.stderr, /no such model/);
});

test("a definition that makes no sense is refused by name", limit, async () => {
  for (const [definition, said] of [["rate: 0", "rate is 0"], ['encoding: "mp3"', 'encoding is "mp3"'], ["tracks: [0, 1]", "hdr16"]]) {
    const child = new Child(`run({ ${definition} });`);
    assert.equal(await child.exited, 1);
    assert.ok(child.stderr.includes(said), child.stderr);
  }
});

test("SIGTERM ends sessions as the end of input does, and SIGINT is for the bridge", limit, async () => {
  const child = new Child(`run({ rate: 8000, onDtmf(s) { s.event("here"); }, onStop(s) { s.event("stopped", s.stopReason); } });`);
  child.start();
  await child.until("ready");
  child.process.kill("SIGINT");
  child.say({ type: "dtmf", digit: "1" });
  assert.equal((await child.until("event")).name, "here");
  child.process.kill("SIGTERM");
  assert.equal((await child.until("event")).data, "gone");
  assert.equal(await child.exited, 0);
});

test("a handler that never returns does not keep the process", limit, async () => {
  const child = new Child(`run({ rate: 8000, onAudio(s) { s.event("in"); return new Promise(() => setInterval(() => {}, 1000)); } });`);
  child.start();
  child.sound();
  await child.until("event");
  child.process.stdin.end();
  assert.equal(await child.exited, 0);
  assert.match(child.stderr, /did not return in time/);
});

test("a bridge that vanished ends a talker", limit, async () => {
  const child = new Child(`run({ rate: 8000, speaks: 8000, async onAudio(s) { for (;;) { s.play(new Int16Array(8000)); await s.drain(); } } });`);
  child.start();
  child.sound();
  await child.until("sound");
  child.process.stdout.destroy();
  assert.equal(await child.exited, 0);
});

test("a filter answers each frame with its position, and a failure with nothing", async () => {
  const child = new Child(`run({
    name: "odd",
    onFilter(s, samples) {
      if (samples[0] === 1) throw new Error("one");
      if (samples[0] === 2) return samples.subarray(1);
      if (samples[0] !== 3) return samples.map((sample) => ~sample);
    },
  });`);
  child.start({ kind: "filter" });
  assert.deepEqual((await child.until("register")).kinds, ["filter"]);
  const { accept } = await child.until("ready");
  const pcm = { encoding: "pcm_s16le", rate: 8000 };
  assert.deepEqual([accept.in, accept.out, accept.framing], [{ ...pcm, frame_ms: 20 }, pcm, "hdr16"]);
  for (let first = 0; first < 5; first += 1) {
    const samples = new Int16Array(160).fill(first);
    child.raw(frame(AUDIO_KIND, 1, packAudio(0, first * 160, new Uint8Array(samples.buffer), 0)));
  }
  const answers = [];
  while (answers.length < 3) {
    const { pts, octets } = unpackAudio((await child.until("sound")).body);
    answers.push([pts, octets.length, octets.readInt16LE(0)]);
  }
  assert.deepEqual(answers, [[0, 320, -1], [480, 320, 3], [640, 320, -5]]);
  child.say({ type: "stop", reason: "hangup", deadline_ms: 3000 });
  await child.until("done");
  child.process.stdin.end();
  assert.equal(await child.exited, 0);
});

test("what cannot filter a call says why", async () => {
  for (const [body, why] of [
    ["onAudio() {}", "is no filter; give it onFilter"],
    ["rate: 16000, onFilter() {}", "has `rate: 16000`, and a filter gets the call's own sound, here with 8000"],
  ]) {
    const child = new Child(`run({ name: "odd", ${body} });`);
    child.start({ kind: "filter" });
    const reject = await child.until("reject");
    assert.equal(reject.code, "unsupported_format");
    assert.ok(reject.message.includes(why), reject.message);
    child.process.stdin.end();
    await child.exited;
  }
});
