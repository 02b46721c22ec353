"""Ringback compute modules in Python: hear a phone call live, answer with text, sound and control.

A module is a class with handlers; `run` makes a process of it that the bridge starts and talks to::

    import ringback

    class Loudness(ringback.Module):
        name = "loudness"

        def on_audio(self, s, pcm):
            if s.now_ms % 1000 == 0:
                s.event("loudness", {"peak": max(pcm[1::2])})

    ringback.run(Loudness)

Needs nothing but Python. `ringback.testing` plays a WAV file to a module without any bridge.
"""

from ._messages import (
    DISCONTINUITY,
    END_OF_SEGMENT,
    SPEECH,
    SYNTHESIZED,
    Call,
    Cleared,
    Consent,
    Dtmf,
    Event,
    Frame,
    Gap,
    Mark,
    Playback,
    Private,
    Spoken,
    Transcript,
    Vad,
    Word,
)
from ._module import Module, Reject
from ._nats_worker import nats
from ._run import run
from ._server import serve
from ._session import Session
from ._wire import WireError
from ._worker import connect

__version__ = "0.1.0"

__all__ = [
    "DISCONTINUITY",
    "END_OF_SEGMENT",
    "SPEECH",
    "SYNTHESIZED",
    "Call",
    "Cleared",
    "Consent",
    "Dtmf",
    "Event",
    "Frame",
    "Gap",
    "Mark",
    "Module",
    "Playback",
    "Private",
    "Reject",
    "Session",
    "Spoken",
    "Transcript",
    "Vad",
    "WireError",
    "Word",
    "connect",
    "nats",
    "run",
    "serve",
]
