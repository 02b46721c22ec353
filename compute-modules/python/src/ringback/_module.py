"""The class a module is written as: what it asks for and what it is told. Calls nothing itself.

Every handler may be `def` or `async def`. Handlers of one session never run at the same time and come in order; handlers of
different sessions do run at the same time. A `def` handler runs on a thread of its session, so it may compute or block: the
process still answers the bridge. `async def` handlers of all sessions share one event loop, so they must not block.
"""

from typing import Any, Awaitable, Optional, Sequence, Union

from ._messages import Cleared, Consent, Dtmf, Event, Frame, Gap, Mark, Playback, Private
from ._messages import Spoken, Transcript, Vad
from ._session import Session

Result = Union[None, Awaitable[None]]
Filtered = Union[None, bytes, bytearray, memoryview, Awaitable[Any]]


class Reject(Exception):
    """Raised by `on_start` to turn a session down.

    `code` is `busy`, `unsupported_format`, `bad_config`, `unauthorized` or a word of your own; `message` is for a person;
    `retryable` says whether asking again may help, after `retry_after_ms` if given.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        retryable: bool = False,
        retry_after_ms: Optional[int] = None,
    ) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message
        self.retryable = retryable
        self.retry_after_ms = retry_after_ms


class Module:
    """Base of every module. Say what you want in class attributes, override the handlers you need.

    There is one instance a process; what belongs to one call goes onto the session `s`, any attribute you like.
    """

    name: str = ""
    """Name in logs and routes; default: the class name in lower case."""
    version: str = ""
    """Your version."""
    kinds: Sequence[str] = ()
    """What the module can be used as: `tap`, `agent`, `filter`, `text`; default: seen from the class."""
    rate: int = 16000
    """Samples per second you want to hear. The bridge converts."""
    encoding: str = "pcm_s16le"
    """How samples are written, both ways: `pcm_s16le`, `pcm_f32le`, `pcmu` or `pcma`."""
    frame_ms: int = 20
    """Length of the pieces of sound you get."""
    tracks: Sequence[int] = (0,)
    """Tracks to hear: 0 the caller, 1 what the caller hears. More than one needs `on_frame`."""
    framing: str = "raw"
    """`raw`: lost time comes as silence. `hdr16`: every frame tells track, position and flags."""
    speaks: Optional[int] = None
    """Samples per second of the sound you `play`, or None if you only listen."""
    pace: str = "clip"
    """What a backlog of your sound means: `clip` all of it is to be played, `live` trim what piles up in a stall."""
    max_sessions: int = 1
    """Calls this process takes at once. With 1 the bridge starts a process for every call: simple, and uses every core."""
    overflow: str = "drop_oldest"
    """What the bridge does when you cannot keep up: `drop_oldest`, `spool` (the same, said aloud) or `fail`."""
    max_queue_ms: int = 30_000
    """Sound waiting in this process for a slow handler; beyond it the oldest is dropped and reported as a gap."""
    auto_ack: bool = True
    """Tell the bridge after each handler that its sound was used. False: call `s.ack` yourself, to decide what is replayed
    after a crash."""

    def on_load(self) -> None:
        """Once per process, before any session is ready: load models here. A failure ends the process with code 70."""

    def current_load(self) -> Optional[float]:
        """How busy this process is, from 0 to 1, for bridges it has dialled: the least busy worker gets the call. None: as its number
        of sessions says. Asked every two seconds on a thread of its own."""
        return None

    def on_start(self, s: Session) -> Result:
        """A session begins; it is ready when this returns. Sound from before that is not lost. Raise `Reject` to decline."""

    def on_audio(self, s: Session, pcm: bytes) -> Result:
        """The next sound: `frame_ms` of mono samples in `encoding` at `rate`. `s.now_ms` is where it ends."""

    def on_frame(self, s: Session, frame: Frame) -> Result:
        """Like `on_audio` and instead of it if overridden: sound with its track, position and flags."""

    def on_filter(self, s: Session, pcm: bytes) -> Filtered:
        """The next sound of the caller, in a module that is used as a filter: return as much sound, which everybody else hears in its
        place, or None for it as it is. It has the call's own rate, `s.rate`, and a budget of a few milliseconds; after that it passes
        as it was. Is called in the place of `on_audio`."""

    def on_gap(self, s: Session, gap: Gap) -> Result:
        """Sound is missing. With framing `raw` the bridge fills its gaps with silence; gaps of this process are skipped."""

    def on_dtmf(self, s: Session, dtmf: Dtmf) -> Result:
        """A key was pressed."""

    def on_vad(self, s: Session, vad: Vad) -> Result:
        """Speech began or ended."""

    def on_text(self, s: Session, text: Transcript) -> Result:
        """Another module of the call heard words, or the provider did (see `Session.say`)."""

    def on_spoken(self, s: Session, spoken: Spoken) -> Result:
        """The provider has spoken words of your `say`, where it tells (`"spoken"` in the `features` of the offer)."""

    def on_mark(self, s: Session, mark: Mark) -> Result:
        """Playback reached a mark of yours, or it was cleared before."""

    def on_cleared(self, s: Session, cleared: Cleared) -> Result:
        """Queued playback was dropped, or the provider was cut off in your words. Stop tasks that still speak; what you `play` or `say` from here on is heard
        again."""

    def on_playback(self, s: Session, playback: Playback) -> Result:
        """Playback of your sound began, ran dry or ended."""

    def on_private(self, s: Session, private: Private) -> Result:
        """A private part of the call began or ended. Unless the route exempts this module, it hears silence meanwhile."""

    def on_consent(self, s: Session, consent: Consent) -> Result:
        """The caller agreed to be recorded, or no longer does; said before this session began, it is told at once."""

    def on_event(self, s: Session, event: Event) -> Result:
        """Something named by the user or another module."""

    def on_update(self, s: Session, config: Any) -> Result:
        """New configuration; `s.config` already is it."""

    def on_finalize(self, s: Session) -> Result:
        """Make all you heard final now. Answered for you when this returns."""

    def on_stop(self, s: Session) -> Result:
        """The session is over (`s.stop_reason`): send your last transcripts. Answered for you when this returns."""


def overrides(module: type, handler: str) -> bool:
    """Whether the class `module` has its own `handler`."""
    return getattr(module, handler) is not getattr(Module, handler)


def name_of(module: type) -> str:
    """The module's name, the class name if it has none."""
    return str(getattr(module, "name", "") or module.__name__.lower())
