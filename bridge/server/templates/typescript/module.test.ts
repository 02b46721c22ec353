// Runs the module as the child the bridge would start. `npm test` in this folder.

import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { runCommand, type Message, type Options } from "ringback/testing";

const MODULE = fileURLToPath(new URL("./NAME.js", import.meta.url));

/** What the module says to half a second of this sample. */
async function said(sample: number, options: Options = {}): Promise<Message[]> {
  const samples = new Int16Array(8000).fill(sample);
  return (await runCommand([process.execPath, MODULE], { samples, ...options })).said;
}

test("loud sound is told", async () => {
  const told = (await said(25000)).filter(({ type }) => type === "event");
  assert.equal(told[0]?.name, "too.loud");
});

test("quiet sound is not", async () => {
  assert.ok(!(await said(100)).some(({ type }) => type === "event"));
});

test("a key hangs up", async () => {
  const messages = [[100, { type: "dtmf", digit: "#" }]] as const;
  assert.ok((await said(0, { messages })).some(({ type }) => type === "hangup"));
});
