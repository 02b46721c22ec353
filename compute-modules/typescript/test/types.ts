// What the types must accept and refuse; compiled, never run.

import * as implementation from "../src/index.js";
import * as testing from "../src/testing.js";
import { connect, defineModule, run, serve } from "ringback";

const declared: Pick<typeof import("ringback"), "run" | "serve" | "connect" | "defineModule" | "Reject"> = implementation;
const helpers: typeof import("ringback/testing") = testing;
void [declared, helpers];

run({
  name: "states",
  state: () => ({ peak: 0 }),
  onAudio(s, samples) {
    const peak: number = s.state.peak;
    const first: Int16Array = samples.subarray(0, 1);
    s.transcript(String(peak), { final: false, words: [{ w: "a", s: 0, e: 1 }] });
    s.play(first);
    // @ts-expect-error it is not in the state
    void s.state.height;
  },
  async onDtmf(s, dtmf) {
    await s.drain();
    s.hangup(dtmf.digit, { after: "playback" });
    // @ts-expect-error no such moment
    s.hangup("", { after: "tomorrow" });
  },
});
run({
  onPrivate: (_, part) => void (part.state satisfies "began" | "ended"),
  onConsent: (s, consent) => s.log("info", consent.by, { given: consent.given, how: consent.how }),
});
run({ encoding: "pcm_f32le", onAudio: (_, samples) => void samples.fill(0.5) });
const floats = defineModule({ encoding: "pcm_f32le", onFrame: (_, frame) => void (frame.samples satisfies Float32Array) });
run(floats);
// @ts-expect-error no such encoding
run({ encoding: "mp3" });
// @ts-expect-error handlers are spelt in camel case
run({ on_audio() {} });
serve(floats, { address: "127.0.0.1:0", maxSessions: 4 });
connect({ currentLoad: () => 0.5 }, { url: ["wss://a.example/modules/m"], token: "t", drainMs: 1000 });
// @ts-expect-error where to?
connect({}, {});
