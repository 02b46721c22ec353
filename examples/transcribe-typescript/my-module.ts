// Live speech to text: PocketSphinx hears the caller, each sentence comes out as a transcript with the times of its words.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { run, type Session, type Word } from "ringback";

const ENGINE = fileURLToPath(new URL("engine.sh", import.meta.url));

run({
  name: "my-module",
  rate: 16000, // the bridge converts
  autoAck: false, // sound counts as used when its text is out: after a crash the whole sentence is heard again
  state: () => ({ engine: spawn(ENGINE), done: Promise.resolve() }),

  onStart(s) {
    s.state.engine.on("error", (problem) => s.error("engine", problem.message, { fatal: true }));
    s.state.engine.stdin.on("error", () => {}); // told by its end
    s.state.engine.on("exit", (code) => code && s.error("engine", `it ended with ${code}`, { fatal: true }));
    s.state.done = listen(s, s.state.engine.stdout, s.nowMs);
  },

  async onAudio(s, samples) {
    const { stdin } = s.state.engine;
    if (!stdin.write(new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength))) await once(stdin, "drain");
  },

  async onStop(s) {
    s.state.engine.stdin.end();
    await s.state.done;
  },
});

// The engine prints a sentence, then a line for each word: begin and end in seconds, and how sure it is. `</s>` comes last.
async function listen(s: Session<unknown>, output: NodeJS.ReadableStream, beginsMs: number): Promise<void> {
  let text = "";
  let words: Word[] = [];
  for await (const line of createInterface({ input: output })) {
    const [, w = "", begin, end, sure] = /^(\S+) (\d+\.\d+) (\d+\.\d+) (\d+\.\d+)$/.exec(line) ?? [];
    const [from, to] = [begin, end].map((seconds) => beginsMs + Math.round(Number(seconds) * 1000)) as [number, number];
    if (w === "") {
      text = line.trim();
    } else if (w === "</s>") {
      if (words.length > 0) s.transcript(text, { start_ms: words[0]!.s, end_ms: words.at(-1)!.e, words });
      s.ack(to);
      words = [];
    } else if (!/^[<[]/.test(w)) {
      words.push({ w: w.replace(/\(\d+\)$/, ""), s: from, e: to, c: Math.min(1, Number(sure)) });
    }
  }
}
