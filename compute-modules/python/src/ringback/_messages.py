"""What handlers are given, as typed values. Knows the fields of messages, not how they travel.

All times are whole milliseconds on the session's media clock: 0 is the caller's first sample.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Type, TypeVar

T = TypeVar("T")

DISCONTINUITY = 1
"""Frame flag: sound before this frame is missing."""
SYNTHESIZED = 2
"""Frame flag: at least part of the frame was made up to conceal loss."""
SPEECH = 4
"""Frame flag: somebody speaks in it."""
END_OF_SEGMENT = 8
"""Frame flag: last frame of a segment."""

SAMPLE_OCTETS = {"pcm_s16le": 2, "pcm_f32le": 4, "pcmu": 1, "pcma": 1}


def read(cls: Type[T], message: Mapping[str, Any]) -> T:
    """A value of the dataclass `cls` from a message: unknown fields ignored, missing ones defaulted."""
    names = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    renamed = {_RENAMED.get(key, key): value for key, value in message.items()}
    return cls(**{key: value for key, value in renamed.items() if key in names})


_RENAMED = {"from": "from_"}


@dataclass(frozen=True)
class Call:
    """The call a session belongs to."""

    id: str = ""
    """The bridge's, unique."""
    from_: Optional[str] = None
    """Calling number or name, if known."""
    to: Optional[str] = None
    """Called number or name, if known."""
    direction: Optional[str] = None
    """`inbound` or `outbound`, if known."""
    provider: str = ""
    """Name of the provider."""
    meta: Dict[str, Any] = field(default_factory=dict)
    """Custom parameters the provider passed on."""


@dataclass(frozen=True)
class Frame:
    """A slice of time of one track, in the encoding and rate the module asked for."""

    pcm: bytes
    """Mono samples."""
    pts: int
    """Position of the first sample on the media clock, in samples."""
    rate: int
    """Samples per second."""
    samples: int
    """How many."""
    track: int = 0
    """Which track."""
    flags: int = 0
    """Any of `DISCONTINUITY`, `SYNTHESIZED`, `SPEECH`, `END_OF_SEGMENT`; known with framing `hdr16`."""

    @property
    def at_ms(self) -> int:
        """When it begins."""
        return self.pts * 1000 // self.rate

    @property
    def end_ms(self) -> int:
        """When it ends."""
        return (self.pts + self.samples) * 1000 // self.rate


@dataclass(frozen=True)
class Dtmf:
    """A key was pressed."""

    digit: str
    """`0`-`9`, `*`, `#`, `A`-`D`."""
    track: int = 0
    duration_ms: Optional[int] = None
    source: str = "provider"
    """How it was learnt: `provider`, `inband` or `rfc4733`."""
    at_ms: int = 0


@dataclass(frozen=True)
class Vad:
    """Speech began or ended, as a voice activity detector on this call sees it."""

    state: str
    """`speech` or `silence`: what it is now."""
    at_ms: int
    """Since when."""
    track: int = 0
    probability: Optional[float] = None


@dataclass(frozen=True)
class Mark:
    """A mark set by this module was reached, or cleared before it was."""

    name: str
    epoch: int
    """Playback generation it was set in."""
    status: str
    """`played` or `cleared`."""
    played_ms: int
    """Sound of this epoch the caller had heard by then."""


@dataclass(frozen=True)
class Cleared:
    """All queued playback was dropped, by this module or because the caller spoke."""

    epoch: int
    """Playback generation that ended."""
    played_ms: int = 0
    """Sound of it the caller heard."""
    discarded_ms: int = 0
    """Sound of it the caller will never hear."""
    heard: Optional[str] = None
    """Words of it the caller heard, on a call that carries words, if known."""


@dataclass(frozen=True)
class Spoken:
    """Words of yours that the provider has spoken to the caller."""

    text: str
    """The words since those told before."""
    epoch: int = 0
    """Playback generation in which the provider told of them."""


@dataclass(frozen=True)
class Playback:
    """Playback of this module's sound began, ran dry or ended."""

    epoch: int
    state: str
    """`started`, `idle`, `underrun` or `paused`."""
    played_ms: int = 0
    """Sound of the epoch heard so far."""


@dataclass(frozen=True)
class Gap:
    """Sound of a track that this module will not get."""

    track: int
    from_ms: int
    to_ms: int
    reason: str
    """`backpressure` (this module was too slow), `provider`, `paused` or `resume`."""


@dataclass(frozen=True)
class Private:
    """A private part of the call began or ended."""

    state: str
    """`began` or `ended`: what has just happened. In between, modules that the route does not exempt hear silence."""
    at_ms: int
    """When."""


@dataclass(frozen=True)
class Consent:
    """The caller agreed to be recorded, or no longer does."""

    given: bool
    """Whether the caller agrees."""
    at_ms: int
    """Since when."""
    by: str
    """Who says so: the name of a module, or `operator`."""
    how: str = ""
    """How that is known."""


@dataclass(frozen=True)
class Event:
    """Something named by the user or another module."""

    name: str
    data: Any = None


@dataclass(frozen=True)
class Word:
    """One word of a transcript."""

    w: str
    """The word."""
    s: int
    """Begin, ms."""
    e: int
    """End, ms."""
    c: Optional[float] = None
    """Confidence, 0 to 1."""


@dataclass(frozen=True)
class Transcript:
    """Words of the caller that another module heard, or the provider on a call that carries words."""

    id: str
    """Names the utterance; the same id replaces an earlier one that was not final."""
    text: str
    final: bool = False
    track: int = 0
    start_ms: int = 0
    end_ms: int = 0
    confidence: Optional[float] = None
    language: Optional[str] = None
    speaker: Optional[str] = None
    words: List[Dict[str, Any]] = field(default_factory=list)
