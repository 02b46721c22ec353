"""A worker on NATS: says once a second how loud the caller was, and who says so. `run` beside it starts several."""

import os

import ringback


class Loudness(ringback.Module):
    name = "loudness"
    rate = 8000
    auto_ack = False  # what a second was made of is needed until the second is told

    def on_start(self, s):
        s.peak, s.since = 0, s.now_ms
        s.event("heard.by", {"worker": os.getpid(), "from_ms": s.now_ms})

    def on_audio(self, s, pcm):
        s.peak = max(s.peak, *map(abs, memoryview(pcm).cast("h")))
        if s.now_ms - s.since >= 1000:
            s.event("loudness", {"from_ms": s.since, "to_ms": s.now_ms, "peak": s.peak, "worker": os.getpid()})
            s.peak, s.since = 0, s.now_ms
            s.ack(s.now_ms)  # whoever goes on after me begins here


ringback.run(Loudness)
