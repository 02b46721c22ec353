"""What a handler holds of a call: everything a module can say, and what it knows of the session. Runs no handlers."""

import dataclasses
import threading
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from ._messages import SAMPLE_OCTETS, Call, Frame, Word, read
from ._outbox import Link, Outbox
from ._wire import AUDIO, JSON, MAX_BODY, dump, pack_audio

PLAY_OCTETS = 32_768
"""Sound is cut into messages of at most this size, so that nothing waits long behind one."""
ACK_STEP_MS = 200
"""An ack is worth sending when it is this much further than the one before."""


class Session:
    """One call leg as your module sees it. Put any attribute of your own onto it.

    All methods may be called from any thread and from coroutines. After the session has ended they do nothing.
    All times are whole milliseconds on the media clock: 0 is the caller's first sample.
    """

    def __init__(self, link: Link, slot: int, start: Mapping[str, Any], module: Any) -> None:
        self.start: Mapping[str, Any] = start
        """The `start` message as it came."""
        self.id: str = str(start.get("session", ""))
        """Names the session: one call, one module."""
        self.call: Call = read(Call, start.get("call") or {})
        """Who calls whom."""
        self.config: Any = start.get("config")
        """The module's configuration, as in the route."""
        resume = start.get("resume") or {}
        self.resumed: bool = bool(resume)
        """Whether this goes on from a session whose process or connection was lost."""
        self.now_ms: int = int(resume.get("from_ms", 0))
        """End of the sound handed to handlers so far."""
        self.heard_ms: int = self.now_ms
        """End of the sound received so far, also what still waits for a handler."""
        self.epoch: int = int(resume.get("epoch", 0))
        """Playback generation; one more after every clear."""
        self.stop_reason: Optional[str] = None
        """Why the session ended: `hangup`, `replaced`, `drain`, `timeout`, `error`, or `gone` if the bridge vanished."""
        offer = start.get("offer") or {}
        self.filters: bool = start.get("kind") == "filter"
        """Whether `on_filter` is called: others hear what it returns."""
        self.rate: int = module.rate
        """Samples per second of the sound that handlers are given."""
        if self.filters and offer.get("in"):
            self.rate = int(offer["in"][0]["rate"])
        self.can_speak: bool = (
            module.speaks is not None and bool(offer.get("out")) and not self.filters
        )
        """Whether `play` reaches anybody."""
        features = offer.get("features") or ()
        self.can_say: bool = "say" in features
        """Whether `say` reaches anybody: the call carries words, the provider hears and speaks by itself."""
        self.can_play_url: bool = "play" in features
        """Whether `play_url` reaches anybody: the provider speaks by itself and fetches files."""

        self._link = link
        self._slot = slot
        self._speaks: Optional[int] = module.speaks
        # An answer of a filter says itself what it is the answer to.
        self._hdr16: bool = module.framing == "hdr16" or self.filters
        self._octets: int = SAMPLE_OCTETS[module.encoding]
        self._lock = threading.Lock()
        self._held: Optional[List[Tuple[int, bytes]]] = []
        self._held_octets = 0
        self._ended = False
        self._failed: Optional[Tuple[str, str]] = None
        self._latest_epoch = self.epoch
        self._begun: Optional[int] = None
        self._played = 0
        self._acked_ms = self.now_ms
        self._utterances = 0
        self._open: Dict[int, Tuple[str, int]] = {}
        self._finalize_id: Optional[str] = None

    if TYPE_CHECKING:  # attributes of your own

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    # What was heard

    def transcript(
        self,
        text: str,
        final: bool = True,
        start_ms: Optional[float] = None,
        end_ms: Optional[float] = None,
        id: Optional[str] = None,
        confidence: Optional[float] = None,
        language: Optional[str] = None,
        speaker: Optional[str] = None,
        words: Sequence[Union[Word, Mapping[str, Any]]] = (),
        track: int = 0,
    ) -> str:
        """Words heard; returns the id of the utterance.

        With `final=False` it is a guess that the next one for the same track replaces. Without `id`, guesses and the final
        text after them share one; without times, the utterance lasts from its first guess until now.
        """
        opened, since = self._open.get(track, (None, None))
        if id is None:
            id = opened or self._next_utterance()
        if start_ms is None:
            start_ms = since if since is not None and id == opened else self.now_ms
        if final:
            self._open.pop(track, None)
        else:
            self._open[track] = (id, round(start_ms))
        self._say(
            "transcript",
            id=id,
            track=track,
            text=text,
            final=final,
            start_ms=round(start_ms),
            end_ms=round(self.now_ms if end_ms is None else end_ms),
            confidence=confidence,
            language=language,
            speaker=speaker,
            words=[_word(word) for word in words] or None,
            finalize_id=self._finalize_id,
        )
        return id

    def _next_utterance(self) -> str:
        # The time makes ids differ between a session and the one that resumes it.
        self._utterances += 1
        return f"u{self._utterances}-{self.now_ms}"

    def turn(
        self,
        event: str,
        turn: int = 0,
        confidence: Optional[float] = None,
        trigger: Optional[str] = None,
        text: Optional[str] = None,
    ) -> None:
        """The caller's turn: `event` is `start`, `update`, `eager_end`, `resumed` or `end`."""
        _one_of("event", event, ("start", "update", "eager_end", "resumed", "end"))
        self._say("turn", event=event, turn=turn, confidence=confidence, trigger=trigger, text=text)

    def vad(
        self,
        state: str,
        at_ms: Optional[int] = None,
        probability: Optional[float] = None,
        track: int = 0,
    ) -> None:
        """Speech began or ended: `state` is `speech` or `silence`."""
        _one_of("state", state, ("speech", "silence"))
        at = self.now_ms if at_ms is None else int(at_ms)
        self._say("vad", track=track, state=state, at_ms=at, probability=probability)

    # What is to be heard

    def play(self, pcm: Any) -> bool:
        """Queues sound for the caller: bytes, or anything whose memory is samples, mono in `encoding` at `speaks`.

        Takes any length. False if the caller will not hear it: nobody may speak on this call, or the playback it belongs to
        was cleared (somebody talked into it) and your handler has not been told yet. Waits while the bridge has a lot queued;
        in a coroutine it cannot wait, so `await s.drain()` there.
        """
        if self._speaks is None:
            raise TypeError(
                "this module only listens; give its class `speaks = 16000` (or another rate)"
            )
        octets = memoryview(pcm).cast("B")
        if len(octets) % self._octets:
            raise ValueError(
                f"{len(octets)} octets are no whole number of samples of {self._octets}"
            )
        if not self.can_speak or self._ended or self._latest_epoch > self.epoch:
            return False
        epoch = self.epoch
        if self._begun != epoch:
            self._begun, self._played = epoch, 0
            self._say("audio.begin", epoch=epoch)
        for at in range(0, len(octets), PLAY_OCTETS):
            if self._latest_epoch > epoch:
                return False
            samples = bytes(octets[at : at + PLAY_OCTETS])
            body = pack_audio(0, epoch, self._played, samples) if self._hdr16 else samples
            self._put(AUDIO, body)
            self._played += len(samples) // self._octets
        return True

    async def drain(self) -> None:
        """Waits until the bridge has taken most of what was played."""
        await self._link.drained()

    def end_of_audio(self) -> None:
        """The utterance is complete: play the rest, however short."""
        if self._begun == self.epoch:
            self._say("audio.end", epoch=self.epoch)

    def say(self, text: str, last: bool = True, language: Optional[str] = None) -> bool:
        """Has the provider speak this, on a call that carries words (`can_say`); there `on_text` is told what the caller says.

        For words that come bit by bit pass `last=False` until the utterance is complete: they are joined as they are. `language`
        is a BCP 47 tag, if it is not the usual one. False if the caller will not hear it: the call carries sound, or the caller
        cut in and your handler has not been told yet.
        """
        if not self.can_say or self._ended or self._latest_epoch > self.epoch:
            return False
        self._say("say", text=text, last=last, language=language, epoch=self.epoch)
        return True

    def play_url(
        self,
        url: str,
        loop: int = 1,
        preemptible: bool = False,
        interruptible: Optional[bool] = None,
    ) -> bool:
        """Has the provider fetch a file and play it behind what was said, on a call where it does (`can_play_url`).

        `loop` is how often, 0 as often as it will. `preemptible`: what you say or play next takes its place at once, music while
        you think say. `interruptible`: whether the caller can cut it off; None leaves it to the provider. False as with `say`.
        """
        if not self.can_play_url or self._ended or self._latest_epoch > self.epoch:
            return False
        self._say(
            "play",
            url=url,
            loop=loop,
            preemptible=preemptible,
            interruptible=interruptible,
            epoch=self.epoch,
        )
        return True

    def language(self, speech: Optional[str] = None, recognition: Optional[str] = None) -> None:
        """On a call that carries words: what the provider speaks and recognises from now on, as BCP 47 tags; None leaves it."""
        if speech is None and recognition is None:
            raise ValueError("give speech, recognition or both")
        self._say("language", speech=speech, recognition=recognition)

    def clear(self) -> None:
        """Drops all queued playback, here and at the provider. `on_cleared` tells how much of it was heard."""
        with self._lock:
            epoch, self.epoch = self.epoch, self.epoch + 1
            self._latest_epoch = max(self._latest_epoch, self.epoch)
        self._say("clear", epoch=epoch)

    def mark(self, name: str) -> None:
        """Asks to be told (`on_mark`) when all that was played before has been heard."""
        self._say("mark", name=name)

    def pause(self) -> None:
        """Holds playback at this very sample."""
        self._say("pause")

    def resume(self) -> None:
        """Goes on playing where `pause` held."""
        self._say("resume")

    # What is to happen to the call

    def begin_private(self, max_ms: Optional[int] = None) -> None:
        """From now on what is said and pressed is for the modules that the route names for it, and for no recording, log or event."""
        self._say("private.begin", max_ms=max_ms)

    def end_private(self) -> None:
        """The call is for everybody again."""
        self._say("private.end")

    def consent(self, given: bool = True, how: str = "") -> None:
        """The caller agreed to be recorded, or no longer does; `how` that is known is kept with the recording."""
        self._say("consent", given=given, how=how)

    def dtmf(
        self, digits: str, tone_ms: Optional[int] = None, gap_ms: Optional[int] = None
    ) -> None:
        """Presses keys: `0`-`9`, `*`, `#`, `A`-`D`."""
        self._say("dtmf.send", digits=digits, tone_ms=tone_ms, gap_ms=gap_ms)

    def hangup(self, reason: str = "", after: str = "now", data: Any = None) -> None:
        """Ends the call: `after="now"`, or `"playback"` when all queued sound was heard.

        `data`, anything JSON can say, is for whoever goes on with the call, where the provider hands it on.
        """
        _one_of("after", after, ("now", "playback"))
        self._say("hangup", reason=reason, after=after, data=data)

    def transfer(self, to: str) -> None:
        """Moves the call elsewhere; `to` as the provider spells it."""
        self._say("transfer", to=to)

    # What is to be known

    def event(self, name: str, data: Any = None) -> None:
        """Something with a dotted lower-case name, kept with the call's events. `data` is anything JSON can say."""
        self._say("event", name=name, data=data)

    def log(self, level: str, msg: str, **fields: Any) -> None:
        """A line for the bridge's log: `debug`, `info`, `warn` or `error`."""
        _one_of("level", level, ("debug", "info", "warn", "error"))
        self._say("log", level=level, msg=msg, fields=fields or None)

    def metric(self, name: str, value: float, unit: str = "") -> None:
        """A figure for the bridge's metrics."""
        self._say("metric", name=name, value=float(value), unit=unit)

    def ack(self, in_ms: int) -> None:
        """All sound up to `in_ms` was used and need not be replayed after a crash. Only for `auto_ack = False`.

        Cheap to call often: sent when it is 200 ms further than the one before.
        """
        in_ms = int(in_ms)
        if in_ms - self._acked_ms >= ACK_STEP_MS:
            self._acked_ms = in_ms
            self._say("ack", in_ms=in_ms, lag_ms=max(0, self.heard_ms - self.now_ms))

    def error(
        self, code: str, message: str = "", fatal: bool = False, retryable: bool = False
    ) -> None:
        """Something went wrong. `fatal` ends the session; the call goes on as its route says."""
        self._say("error", code=code, message=message, fatal=fatal, retryable=retryable)
        if fatal:
            self._failed = (code, message)
            self._ended = True

    # For the process that runs the handlers

    def _say(self, type: str, **fields: Any) -> None:
        message = {"type": type}
        message.update((key, value) for key, value in fields.items() if value is not None)
        self._put(JSON, dump(message))

    def _put(self, kind: int, body: bytes) -> None:
        if len(body) > MAX_BODY:
            raise ValueError(f"message of {len(body)} octets; the contract allows {MAX_BODY}")
        with self._lock:
            if self._ended:
                return
            if self._held is not None:
                self._hold(kind, body)
                return
        self._link.send(self._slot, kind, body)

    def _answer_frame(self, frame: Frame, made: Any) -> None:
        """A filter made this of a frame; None leaves it as it was."""
        samples = frame.pcm if made is None else bytes(memoryview(made).cast("B"))
        if len(samples) != len(frame.pcm):
            raise ValueError(
                f"{len(samples)} octets were returned for {len(frame.pcm)}; a filter keeps the length of what it gets"
            )
        self._put(AUDIO, pack_audio(frame.track, 0, frame.pts, samples))

    def _hold(self, kind: int, body: bytes) -> None:
        """Nothing may go out before `ready`, so what `on_start` says waits for it."""
        assert self._held is not None
        self._held_octets += len(body)
        if self._held_octets > Outbox.HARD_LIMIT:
            raise BufferError(
                "on_start plays too much before it returns; play long sound from another handler"
            )
        self._held.append((kind, body))

    def _answer_start(self, message: Dict[str, Any], accepted: bool) -> None:
        """Sends `ready` or `reject`, and after a `ready` what was held."""
        with self._lock:
            held, self._held = self._held or [], None
            self._ended = self._ended or not accepted
            self._link.send(self._slot, JSON, dump(message))
            if accepted:
                for kind, body in held:
                    self._link.send(self._slot, kind, body)

    def _lose(self) -> None:
        """Nobody hears this session any more."""
        with self._lock:
            self._ended, self.stop_reason = True, "gone"

    def _interrupted(self, epoch: int) -> None:
        """Ahead of the queue of handlers: the generation `epoch` will not be heard, so `play` need not go on."""
        with self._lock:
            self._latest_epoch = max(self._latest_epoch, epoch + 1)

    def _cleared(self, epoch: int) -> None:
        """Moves to the generation after `epoch`, if not there already."""
        with self._lock:
            self.epoch = max(self.epoch, epoch + 1)
            self._latest_epoch = max(self._latest_epoch, self.epoch)


def _word(word: Union[Word, Mapping[str, Any]]) -> Dict[str, Any]:
    fields = dataclasses.asdict(word) if isinstance(word, Word) else dict(word)
    return {key: value for key, value in fields.items() if value is not None}


def _one_of(what: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{what} is {value!r}; it can be {', '.join(allowed)}")
