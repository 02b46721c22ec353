// A program on `@palantir/compute-module`, as somebody would write it for Palantir's platform: nothing in it knows of the bridge.
const { ComputeModule } = require("@palantir/compute-module");
const { Type } = require("@sinclair/typebox");

const event = Type.Object({ call_id: Type.String() });
const names = ["on_start", "on_transcript", "on_utterance", "on_dtmf", "forever", "on_end"];
const definitions = Object.fromEntries(names.map((name) => [name, { input: event, output: Type.String() }]));

const sound = (ms) => ({ type: "audio", pcm16: Buffer.alloc(32 * ms, 0x10).toString("base64"), rate: 16000 });

new ComputeModule({ definitions })
  .register("on_start", async () => "Welcome.")
  .registerStreaming("on_transcript", async ({ text }, out) => {
    const write = (value) => out.write(JSON.stringify(value));
    console.log(`asked ${text}`);
    if (text === "bye") {
      write({ type: "say", text: "Goodbye." });
      write({ type: "hangup", after: "playback", reason: "done" });
      return out.end();
    }
    write("You said ");
    if (text === "raise") {
      await new Promise((resolve) => setTimeout(resolve, 100));
      throw new Error("in mid-stream");
    }
    write(`${text}.`);
    out.end();
  })
  .register("on_utterance", async ({ audio_b64, sample_rate }) => {
    const ms = Math.floor(Buffer.from(audio_b64, "base64").length / 32);
    return { type: "event", name: "heard", data: { ms, rate: sample_rate } };
  })
  .register("on_dtmf", async ({ digit }) => {
    if (digit === "2") return sound(500);
    if (digit === "3") throw new Error("three");
    if (digit === "#") return { type: "hangup" };
    return { type: "event", name: "key", data: { digit, pid: process.pid } };
  })
  .registerStreaming("forever", async (_, out) => {
    const tick = setInterval(() => out.write(JSON.stringify(sound(200))), 50);
    out.on("close", () => clearInterval(tick));
  })
  .register("on_end", async ({ reason, history }) => {
    return { type: "event", name: "over", data: { reason, turns: history.length } };
  });
