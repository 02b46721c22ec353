// The contract as octets, and what bounds the queues have.

import assert from "node:assert/strict";
import { test } from "node:test";
import { HARD_LIMIT, LIMIT, Outbox } from "../src/outbox.js";
import { AUDIO_KIND, FrameReader, JSON_KIND, MAX_BODY, WireError, dump, frame, load, packAudio, samplesOf, unpackAudio } from "../src/wire.js";

test("frames are laid out as the contract says", () => {
  assert.deepEqual([...frame(JSON_KIND, 0x0102, dump({ type: "x" }))], [12, 0, 0, 0, 0, 0, 2, 1, ...Buffer.from('{"type":"x"}')]);
  assert.deepEqual([...packAudio(0x04030201, 0x0605, Buffer.from([9, 9]))], [1, 0, 1, 0, 1, 2, 3, 4, 5, 6, 0, 0, 0, 0, 0, 0, 9, 9]);
  assert.throws(() => frame(AUDIO_KIND, 1, Buffer.alloc(MAX_BODY + 1)), RangeError);
});

test("frames survive any cut", () => {
  const bodies = [Buffer.alloc(0), Buffer.from("{}"), Buffer.alloc(1000, 7)];
  const stream = Buffer.concat(bodies.map((body, slot) => frame(AUDIO_KIND, slot, body)));
  for (const size of [1, 3, 7, 8, 9, 500, stream.length]) {
    const reader = new FrameReader();
    const seen = [];
    for (let at = 0; at < stream.length; at += size) seen.push(...reader.feed(stream.subarray(at, at + size)));
    assert.deepEqual(seen.map(({ slot }) => slot), [0, 1, 2]);
    assert.ok(seen.every(({ body, slot }) => body.equals(bodies[slot])));
    assert.equal(reader.pending, 0);
  }
});

test("a header that no bridge writes is refused where it stands", () => {
  const reader = new FrameReader();
  const stream = Buffer.concat([frame(JSON_KIND, 1, Buffer.from("{}")), Buffer.from("loading model")]);
  assert.throws(() => [...reader.feed(stream)], (error) => error instanceof WireError && error.message.includes("octet 10"));
});

test("sound comes back as samples in memory of its own", () => {
  const body = packAudio(3, 160, new Uint8Array(new Int16Array([1, -2]).buffer), 0, 5);
  const { flags, track, epoch, pts, octets } = unpackAudio(body);
  assert.deepEqual({ flags, track, epoch, pts }, { flags: 5, track: 0, epoch: 3, pts: 160 });
  const samples = samplesOf(octets, "pcm_s16le");
  body.fill(0);
  assert.deepEqual([...samples], [1, -2]);
  assert.throws(() => samplesOf(Buffer.alloc(3), "pcm_f32le"), WireError);
});

test("messages are objects with a type, and numbers that JSON has not are refused", () => {
  assert.equal(load(dump({ type: "x", gone: undefined })).gone, undefined);
  for (const text of ["", "7", "null", "{}", '{"type":1}']) assert.throws(() => load(Buffer.from(text)), WireError, text);
  assert.throws(() => dump({ type: "metric", value: NaN }), /value of metric is NaN/);
});

test("what is urgent overtakes, what is too much throws, and room is told of", async () => {
  const written = [];
  let finish = () => {};
  const outbox = new Outbox((data, done) => {
    written.push(data);
    finish = done;
  }, () => {});
  const piece = Buffer.alloc(LIMIT);
  for (let n = 0; n < HARD_LIMIT / LIMIT; n += 1) outbox.put(piece);
  assert.throws(() => outbox.put(piece), /await s.drain/);
  let isRoom = false;
  const room = outbox.drained().then(() => (isRoom = true));
  finish();
  outbox.put(Buffer.from("pong"), true);
  await undefined;
  assert.equal(isRoom, false);
  for (let n = 0; n < HARD_LIMIT / LIMIT; n += 1) finish();
  await room;
  assert.equal(written[2].toString(), "pong");
});

test("when the far end is gone, nobody waits and it is told once", async () => {
  let told = 0;
  const outbox = new Outbox((_, done) => done(new Error("EPIPE")), () => (told += 1));
  for (let n = 0; n < 20; n += 1) outbox.put(Buffer.alloc(LIMIT));
  await outbox.drained();
  assert.equal(told, 1);
});
