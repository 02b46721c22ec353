"""A filter that turns each bit of what it hears around, and tells as which process it runs."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "compute-modules/python/src"))

import ringback  # noqa: E402


class Inverter(ringback.Module):
    def on_start(self, s):
        s.event("started", {"pid": os.getpid()})

    def on_filter(self, s, pcm):
        return bytes(255 - octet for octet in pcm)


ringback.run(Inverter)
