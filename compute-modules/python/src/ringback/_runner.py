"""One session's life: takes what came in, calls the module's handlers in order, answers for them. Reads no stream."""

import asyncio
import concurrent.futures
import dataclasses
import inspect
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple

from ._inbox import Inbox
from ._messages import (
    DISCONTINUITY,
    SAMPLE_OCTETS,
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
    read,
)
from ._module import Reject, overrides
from ._session import Session
from ._wire import Message, WireError, unpack_audio

if TYPE_CHECKING:
    from ._host import Host

MAX_FAILURES = 10
"""A handler that fails so often in a row ends its session."""
REPORT_MS = 5_000
"""Dropped sound is logged at most this often."""

TYPED: Dict[str, Tuple[str, type]] = {
    "dtmf": ("on_dtmf", Dtmf),
    "vad": ("on_vad", Vad),
    "mark": ("on_mark", Mark),
    "cleared": ("on_cleared", Cleared),
    "playback": ("on_playback", Playback),
    "gap": ("on_gap", Gap),
    "text": ("on_text", Transcript),
    "spoken": ("on_spoken", Spoken),
    "private": ("on_private", Private),
    "consent": ("on_consent", Consent),
    "event": ("on_event", Event),
}
"""Messages that become a value and a call of a handler, and nothing else."""


class Runner:
    """Runs the handlers of one session on one thread; `async def` handlers are awaited there, on the host's event loop."""

    def __init__(self, host: "Host", slot: int, start: Message) -> None:
        module = host.module_class
        self.session = Session(host.link(slot), slot, start, module)
        self.inbox = Inbox(module.max_queue_ms)
        self._host = host
        self._slot = slot
        self._start = start
        self._rate = self.session.rate
        self._octets = SAMPLE_OCTETS[module.encoding]
        self._hears_frames = overrides(module, "on_frame")
        self._failures: Dict[str, int] = {}
        self._task: "Optional[asyncio.Task[None]]" = None
        self._next_pts = self.session.now_ms * self._rate // 1000
        self._handled_ms = 0
        self._dropped_ms = 0
        self._unreported_ms = 0
        self._report_at_ms = 0
        name = f"ringback-{self.session.id or slot}"
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    # Called by the thread that reads from the bridge

    def sound(self, body: bytes) -> None:
        """Sound came in."""
        track, flags, pts, samples = 0, 0, self._next_pts, body
        if self.session._hdr16:
            flags, track, _, pts, samples = unpack_audio(body)
        count, rest = divmod(len(samples), self._octets)
        if rest:
            raise WireError(
                f"{len(samples)} octets of sound are no whole number of samples of {self._octets}"
            )
        frame = Frame(samples, pts, self._rate, count, track, flags)
        self._next_pts = pts + count
        self.session.heard_ms = max(self.session.heard_ms, frame.end_ms)
        self.inbox.put_sound(frame)

    def message(self, message: Message) -> None:
        """Anything else came in."""
        if message["type"] == "stop":
            self.inbox.stop(message, message.get("deadline_ms", 3_000) / 1000)
            return
        if message["type"] == "cleared":
            self.session._interrupted(message["epoch"])
        self.inbox.put_message(message)

    def abandon(self, seconds: float) -> None:
        """The bridge is gone: ends the session within about `seconds`, as far as its handlers let it."""
        self.inbox.stop({"type": "stop", "reason": "gone"}, seconds)

    def lose(self, seconds: float) -> None:
        """The bridge is gone while others are not: the same, and what is said from here on goes nowhere."""
        self.session._lose()
        self.abandon(seconds)

    def cancel(self) -> None:
        """Cancels the `async def` handler that runs, if one does."""
        task = self._task
        if task is not None:
            self._host.loop().call_soon_threadsafe(task.cancel)

    # The session's own thread

    def _run(self) -> None:
        try:
            if self._begin():
                self._loop()
        finally:
            self._host.ended(self._slot, self)

    def _begin(self) -> bool:
        s = self.session
        if not self._host.wait_loaded():
            return False
        try:
            missing = self._host.missing(s)
            if missing is not None:
                raise Reject("unsupported_format", missing)
            self._call("on_start", s)
        except Reject as no:
            answer = {
                "code": no.code,
                "message": no.message,
                "retryable": no.retryable,
            }
            if no.retry_after_ms is not None:
                answer["retry_after_ms"] = no.retry_after_ms
        except BaseException as error:
            traceback.print_exc(file=sys.stderr)
            answer = {"code": "exception", "message": f"on_start: {_one_line(error)}"}
        else:
            if s._failed is None:
                s._answer_start(self._host.ready(s), accepted=True)
                return True
            answer = {"code": s._failed[0], "message": s._failed[1]}
        self._host.ended(self._slot, self)
        s._answer_start({"type": "reject", **answer}, accepted=False)
        return False

    def _loop(self) -> None:
        s = self.session
        while not s._ended:
            item = self.inbox.get()
            if isinstance(item, Frame):
                self._hear(item)
            elif item["type"] == "stop":
                s.stop_reason = str(item.get("reason", "hangup"))
                break
            else:
                self._guard(item["type"], self._tell, item)
        unheard_ms = s.heard_ms - s.now_ms
        self._dropped_ms += unheard_ms
        self._unreported_ms += unheard_ms
        self._guard("on_stop", self._call, "on_stop", s)
        if self._unreported_ms:
            self._report_dropped()
        # Before `done`, which lets the bridge use the slot again at once.
        self._host.ended(self._slot, self)
        stats = {"in_ms": s.now_ms, "handled_ms": self._handled_ms, "dropped_ms": self._dropped_ms}
        s._say("done", stats=stats)
        s._ended = True

    def _hear(self, frame: Frame) -> None:
        s = self.session
        lost = self.inbox.lost()
        for track, (begin, end) in lost.items():
            self._skip(track, begin, end)
        if frame.track in lost:
            frame = dataclasses.replace(frame, flags=frame.flags | DISCONTINUITY)
        s.now_ms = max(s.now_ms, frame.end_ms)
        if s.filters:
            self._guard("on_filter", self._filter, frame)
        elif self._hears_frames:
            self._guard("on_frame", self._call, "on_frame", s, frame)
        else:
            self._guard("on_audio", self._call, "on_audio", s, frame.pcm)
        self._handled_ms += frame.end_ms - frame.at_ms
        if self._host.module_class.auto_ack:
            s.ack(s.now_ms)
        if self._unreported_ms and s.now_ms >= self._report_at_ms:
            self._report_dropped()

    def _filter(self, frame: Frame) -> None:
        self.session._answer_frame(frame, self._call("on_filter", self.session, frame.pcm))

    def _skip(self, track: int, begin: int, end: int) -> None:
        """Sound did not fit into the inbox."""
        from_ms, to_ms = begin * 1000 // self._rate, end * 1000 // self._rate
        self._dropped_ms += to_ms - from_ms
        self._unreported_ms += to_ms - from_ms
        gap = Gap(track, from_ms, to_ms, "backpressure")
        self._guard("on_gap", self._call, "on_gap", self.session, gap)

    def _report_dropped(self) -> None:
        s = self.session
        lag = self.inbox.sound_ms
        s.log(
            "warn",
            "handlers too slow, sound dropped",
            dropped_ms=self._unreported_ms,
            lag_ms=lag,
        )
        s.metric("sound.dropped_ms", self._dropped_ms, "ms")
        self._unreported_ms = 0
        self._report_at_ms = s.now_ms + REPORT_MS

    def _tell(self, message: Message) -> None:
        s, type = self.session, message["type"]
        if type == "cleared":
            s._cleared(int(message["epoch"]))
        if type in TYPED:
            handler, cls = TYPED[type]
            self._call(handler, s, read(cls, message))
        elif type == "update":
            s.config = message.get("config")
            self._call("on_update", s, s.config)
        elif type == "finalize":
            self._finalize(message.get("id"))

    def _finalize(self, id: Any) -> None:
        s = self.session
        s._finalize_id = id
        try:
            self._guard("on_finalize", self._call, "on_finalize", s)
        finally:
            s._finalize_id = None
            s._say("finalized", id=id)

    def _call(self, handler: str, *args: Any) -> Any:
        result = getattr(self._host.module, handler)(*args)
        if inspect.isawaitable(result):
            loop = self._host.loop()
            return asyncio.run_coroutine_threadsafe(self._await(result), loop).result()
        return result

    async def _await(self, awaitable: Any) -> Any:
        self._task = asyncio.current_task()
        try:
            return await awaitable
        finally:
            self._task = None

    def _guard(self, what: str, function: Callable[..., None], *args: Any) -> None:
        """Calls `function`; an exception becomes an `error` message, and the end of the session when they go on and on."""
        try:
            function(*args)
        except concurrent.futures.CancelledError:
            return
        except BaseException as error:
            failures = self._failures[what] = self._failures.get(what, 0) + 1
            fatal = failures >= MAX_FAILURES
            print(f"ringback: session {self.session.id}: {what} failed", file=sys.stderr)
            traceback.print_exc(file=sys.stderr)
            self.session.error("exception", f"{what}: {_one_line(error)}", fatal=fatal)
        else:
            self._failures.pop(what, None)


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:500]
