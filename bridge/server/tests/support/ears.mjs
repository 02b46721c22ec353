// The ears of `ears.py` on the TypeScript SDK: tells which sound it heard. It knows what the caller says and when.

import { run } from "../../../../compute-modules/typescript/src/index.js";

const REPORT = 1600;
const known = (n) => ((n * 7919) % 30011) - 15006 || 1;

function report(s) {
  const { first, last, wrong } = s.state;
  if (first === undefined) return;
  s.event("heard", { pid: process.pid, from: first, to: last, wrong });
  s.ack(last / 8);
  s.state.first = undefined;
}

run({
  name: "ears",
  rate: 8000,
  framing: "hdr16",
  autoAck: false,
  state: () => ({ first: undefined, last: 0, wrong: 0 }),
  onStart(s) {
    s.event("started", { pid: process.pid, resume: s.start.resume ?? null });
  },
  onFrame(s, { pts, samples }) {
    if (s.state.first !== undefined && pts !== s.state.last) report(s);
    if (s.state.first === undefined) s.state = { first: pts, last: pts, wrong: 0 };
    s.state.wrong += samples.filter((sample, index) => sample !== known(pts + index)).length;
    s.state.last = pts + samples.length;
    if (s.state.last - s.state.first >= REPORT) report(s);
  },
  onGap(s, gap) {
    s.event("gap", gap);
  },
  onStop(s) {
    report(s);
  },
});
