"""A module that bridges dial and that tells which sound it heard. It knows what the caller says; see `ears.py`."""

import os
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[4] / "compute-modules" / "python" / "src"))

import ringback  # noqa: E402

REPORT = 1600


class Ears(ringback.Module):
    rate = 8000
    framing = "hdr16"
    auto_ack = False
    max_sessions = 4

    def on_start(self, s):
        s.first = s.last = s.wrong = None
        s.event("started", {"pid": os.getpid(), "resume": s.start.get("resume")})

    def on_frame(self, s, frame):
        if s.first is not None and frame.pts != s.last:
            self.report(s)
        if s.first is None:
            s.first, s.wrong = frame.pts, 0
        samples = struct.unpack(f"<{len(frame.pcm) // 2}h", frame.pcm)
        s.wrong += sum(sample != known(frame.pts + i) for i, sample in enumerate(samples))
        s.last = frame.pts + len(samples)
        if s.last - s.first >= REPORT:
            self.report(s)

    def on_gap(self, s, gap):
        s.event("gap", vars(gap))

    def on_stop(self, s):
        self.report(s)

    def report(self, s):
        if s.first is not None:
            s.event("heard", {"from": s.first, "to": s.last, "wrong": s.wrong})
            s.ack(s.last * 1000 // 8000)
        s.first = None


def known(n):
    return n * 7919 % 30011 - 15006 or 1


ringback.run(Ears)
