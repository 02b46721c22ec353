"""NAME: a Ringback compute module. It tells how loud the caller is, and hangs up on `#`."""

import ringback


class CLASS(ringback.Module):
    name = "NAME"  # in logs
    rate = 16000  # samples per second you want to hear; the bridge converts whatever the call sounds like
    # speaks = 16000  # to answer with sound: s.play(pcm)

    def on_start(self, s):
        """A call begins. `s` is yours: put on it what belongs to this call. Load models in `on_load`, once per process."""
        s.limit = (s.config or {}).get("limit", 20000)

    def on_audio(self, s, pcm):
        """The next 20 ms, mono 16-bit samples. `s.now_ms` is where they end on the call's clock."""
        peak = max(abs(sample) for sample in memoryview(pcm).cast("h"))
        if peak > s.limit:
            s.event("too.loud", {"peak": peak, "at_ms": s.now_ms})
            # s.transcript("what was said")  # words you heard
            # s.clear()                      # stop what is being played

    def on_dtmf(self, s, key):
        """A key was pressed."""
        if key.digit == "#":
            s.hangup("the caller pressed #")


ringback.run(CLASS)  # last line; never returns
