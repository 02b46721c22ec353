// NAME: a Ringback compute module. It tells how loud the caller is, and hangs up on `#`.

import { run } from "ringback";

run({
  name: "NAME", // in logs
  rate: 16000, // samples per second you want to hear; the bridge converts whatever the call sounds like
  // speaks: 16000, // to answer with sound: s.play(samples)

  // What belongs to one call: `s.state`, with its type. Load models in `onLoad`, once per process.
  state: (s) => ({ limit: Number(s.config?.limit ?? 20000) }),

  // The next 20 ms, mono 16-bit samples. `s.nowMs` is where they end on the call's clock.
  onAudio(s, samples) {
    const peak = samples.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0);
    if (peak > s.state.limit) {
      s.event("too.loud", { peak, at_ms: s.nowMs });
      // s.transcript("what was said"); // words you heard
      // s.clear(); // stop what is being played
    }
  },

  // A key was pressed.
  onDtmf(s, key) {
    if (key.digit === "#") s.hangup("the caller pressed #");
  },
});
