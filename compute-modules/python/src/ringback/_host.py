"""What a process of a module is to the bridge: register, sessions by slot, pings. Reads and writes no stream itself."""

import asyncio
import itertools
import sys
import threading
import time
import traceback
from typing import Any, Callable, Dict, List, Optional, Type

from ._messages import SAMPLE_OCTETS
from ._module import Module, name_of, overrides
from ._outbox import Link
from ._runner import Runner
from ._session import Session
from ._wire import AUDIO, JSON, Message, WireError, dump, load

VERSION = 1
"""Version of the contract spoken."""
PROCESS = 0
"""The slot that is the process itself."""


class Host:
    """Runs sessions of one module class. A transport calls `receive` for each message and `close` at the end.

    `link` is the way to the bridge; None for a transport of several bridges, which calls `attach` for each.
    `on_failed` is called from another thread if the module cannot be loaded. `max_sessions`, if given, is in the place of the
    class attribute. `on_change` is called on any thread when a session has begun or ended.
    """

    def __init__(
        self,
        module_class: Type[Module],
        link: Optional[Link],
        on_failed: Callable[[], None],
        max_sessions: Optional[int] = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        check(module_class)
        self.module_class = module_class
        self.module: Optional[Module] = None
        self.max_sessions = module_class.max_sessions if max_sessions is None else max_sessions
        if self.max_sessions < 1:
            raise ValueError(f"max_sessions is {self.max_sessions}; it must be above 0")
        self._link = link
        self._links: Dict[int, Link] = {}
        self._slots = itertools.count(1)
        self._on_failed = on_failed
        self._on_change = on_change
        self._runners: Dict[int, Runner] = {}
        self._lock = threading.Lock()
        self._loaded = threading.Event()
        self._loading: Optional[threading.Thread] = None
        self._loop: Optional[asyncio.AbstractEventLoop] = None

    def start(self) -> None:
        """Loads the module and then registers. Returns at once: pings are answered while the module loads."""
        self._loading = threading.Thread(target=self._load, name="ringback-load", daemon=True)
        self._loading.start()

    def receive(self, kind: int, slot: int, body: bytes) -> None:
        """Takes one message. Never waits. Raises `WireError` for what no bridge sends."""
        if kind == AUDIO:
            runner = self._runners.get(slot)
            if slot == PROCESS:
                raise WireError("sound for slot 0, which is the process and no session")
            if runner is not None:
                runner.sound(body)
            return
        message = load(body)
        try:
            self._receive_message(slot, message)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            what = f"{type(error).__name__}: {error}"
            raise WireError(
                f"malformed {message['type']} ({what}): {dump(message)[:200]!r}"
            ) from error

    def _receive_message(self, slot: int, message: Message) -> None:
        if message["type"] == "ping":
            pong = {"type": "pong", "t": message.get("t", 0)}
            self.link(slot).send(slot, JSON, dump(pong), urgent=True)
        elif message["type"] == "start":
            self._open(slot, message)
        else:
            runner = self._runners.get(slot)
            # None for a session that has just ended here, and for messages to the process this version does not know.
            if runner is not None:
                runner.message(message)

    @property
    def sessions(self) -> int:
        """Sessions that are held now."""
        return len(self._runners)

    def attach(self, link: Link) -> int:
        """A bridge came: the slot of its session."""
        slot = next(self._slots)
        self._links[slot] = link
        return slot

    def detach(self, slot: int, seconds: float) -> None:
        """The bridge of `slot` is gone: ends its session within about `seconds`, if it has not ended."""
        runner = self._runners.get(slot)
        self._links.pop(slot, None)
        if runner is not None:
            runner.lose(seconds)

    def link(self, slot: int) -> Link:
        """The way to the bridge of `slot`."""
        link = self._links.get(slot, self._link)
        if link is None:
            raise WireError(f"slot {slot} has no bridge")
        return link

    def close(self, seconds: float) -> bool:
        """Ends all sessions as if the call had ended; whether all handlers returned within `seconds`."""
        until = time.monotonic() + seconds
        self._loaded.set()
        with self._lock:
            runners = list(self._runners.values())
        for runner in runners:
            runner.abandon(seconds / 2)
        for runner in runners:
            runner.thread.join(max(0.0, until - seconds * 2 / 5 - time.monotonic()))
        for runner in runners:
            runner.cancel()
            runner.thread.join(max(0.0, until - time.monotonic()))
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
        threads = [runner.thread for runner in runners] + ([self._loading] if self._loading else [])
        return not any(thread.is_alive() for thread in threads)

    # For runners

    def wait_loaded(self) -> bool:
        """Waits until the module is loaded; False if that failed."""
        self._loaded.wait()
        return self.module is not None

    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of all `async def` handlers, on a thread of its own."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                run = threading.Thread(
                    target=self._loop.run_forever, name="ringback-loop", daemon=True
                )
                run.start()
            return self._loop

    def ready(self, s: Session) -> Message:
        """The answer to `start` that takes the offer as the class wants it."""
        cls = self.module_class
        accept: Message = {
            "in": None,
            "out": None,
            "framing": cls.framing,
            "tracks": list(cls.tracks),
        }
        if s.filters and not _is_silent(s):
            accept["in"] = {"encoding": cls.encoding, "rate": s.rate, "frame_ms": cls.frame_ms}
            accept["out"] = {"encoding": cls.encoding, "rate": s.rate}
            accept["framing"], accept["tracks"] = "hdr16", [0]
        elif _is_silent(s):
            accept["tracks"] = []
        elif _hears(cls):
            accept["in"] = {"encoding": cls.encoding, "rate": cls.rate, "frame_ms": cls.frame_ms}
        if s.can_speak:
            accept["out"] = {"encoding": cls.encoding, "rate": cls.speaks, "pace": cls.pace}
        return {
            "type": "ready",
            "session": s.id,
            "accept": accept,
            "want": [
                what
                for what in ("dtmf", "vad", "text", "spoken", "playback", "private", "consent")
                if overrides(cls, f"on_{what}")
            ],
            "overflow": cls.overflow,
        }

    def missing(self, s: Session) -> Optional[str]:
        """What the class cannot do without and the call has not, in words."""
        cls = self.module_class
        if s.filters:
            return _unfit_to_filter(cls, s)
        if _is_silent(s) and _hears(cls) and not overrides(cls, "on_text"):
            return (
                f"{name_of(cls)} hears sound and this call has none: the provider recognises speech by itself; "
                "override on_text to take its words"
            )
        return None

    def session(self, slot: int) -> Optional[Runner]:
        """The session of `slot`, while there is one."""
        return self._runners.get(slot)

    def ended(self, slot: int, runner: Runner) -> None:
        """The session of `slot` is over."""
        with self._lock:
            if self._runners.get(slot) is runner:
                del self._runners[slot]
        self._on_change()

    # Inside

    def _load(self) -> None:
        try:
            module = self.module_class()
            module.on_load()
            if self._link is not None:
                self._link.send(PROCESS, JSON, dump(self.registration()))
            self.module = module
        except BaseException:
            traceback.print_exc(file=sys.stderr)
            print("ringback: the module could not be loaded", file=sys.stderr)
            self._on_failed()
        finally:
            self._loaded.set()

    def registration(self) -> Message:
        """Who this is, as it registers with a bridge."""
        cls = self.module_class
        return {
            "type": "register",
            "module": name_of(cls),
            "version": str(cls.version),
            "v": [VERSION],
            "kinds": _kinds(cls),
            "max_sessions": self.max_sessions,
            "in": [{"encoding": cls.encoding, "rate": cls.rate}] if _hears(cls) else [],
        }

    def _open(self, slot: int, start: Message) -> None:
        if slot == PROCESS:
            raise WireError("start for slot 0, which is the process and no session")
        with self._lock:
            refusal = self._refusal(slot, start)
            if refusal is None:
                runner = self._runners[slot] = Runner(self, slot, start)
                runner.thread.start()
                self._on_change()
                return
        self.link(slot).send(slot, JSON, dump({"type": "reject", **refusal}), urgent=True)

    def _refusal(self, slot: int, start: Message) -> Optional[Dict[str, Any]]:
        if start.get("v", VERSION) != VERSION:
            return {
                "code": "unsupported_version",
                "message": f"this module speaks version {VERSION}",
            }
        if slot in self._runners:
            return {"code": "busy", "message": f"slot {slot} has a session"}
        if len(self._runners) >= self.max_sessions:
            message = f"{len(self._runners)} sessions, max_sessions allows no more"
            return {"code": "busy", "message": message, "retryable": True}
        return None


def check(module_class: Type[Module]) -> None:
    """Raises `TypeError` or `ValueError` for class attributes that make no sense, naming them."""
    if not (isinstance(module_class, type) and issubclass(module_class, Module)):
        raise TypeError(f"{module_class!r} is no subclass of ringback.Module")
    allowed = {
        "encoding": tuple(SAMPLE_OCTETS),
        "framing": ("raw", "hdr16"),
        "pace": ("clip", "live"),
        "overflow": ("drop_oldest", "drop_newest", "spool", "fail"),
    }
    for attribute, values in allowed.items():
        value = getattr(module_class, attribute)
        if value not in values:
            raise ValueError(
                f"{module_class.__name__}.{attribute} is {value!r}; it can be {', '.join(values)}"
            )
    for attribute in ("rate", "frame_ms", "max_sessions", "max_queue_ms"):
        value = getattr(module_class, attribute)
        if not isinstance(value, int) or value <= 0:
            raise ValueError(
                f"{module_class.__name__}.{attribute} is {value!r}; it must be a whole number above 0"
            )
    if len(module_class.tracks) > 1 and module_class.framing != "hdr16":
        raise ValueError(
            f'{module_class.__name__} hears several tracks; that needs framing = "hdr16" and on_frame'
        )


def _is_silent(s: Session) -> bool:
    """Whether no sound of the caller is to be had."""
    return not (s.start.get("offer") or {}).get("in")


def _unfit_to_filter(cls: Type[Module], s: Session) -> Optional[str]:
    """Why the class cannot filter the sound of this call, if it cannot."""
    if not overrides(cls, "on_filter"):
        return f"{name_of(cls)} is no filter; override on_filter to make it one"
    own_rate = any("rate" in vars(c) for c in cls.__mro__ if c is not Module)
    if own_rate and cls.rate != s.rate and not _is_silent(s):
        return (
            f"{name_of(cls)} has `rate = {cls.rate}`, and a filter gets the call's own sound, here with {s.rate} samples per second; "
            "leave `rate` away and go by `s.rate`"
        )
    return None


def _hears(cls: Type[Module]) -> bool:
    return overrides(cls, "on_audio") or overrides(cls, "on_frame")


def _kinds(cls: Type[Module]) -> List[str]:
    if cls.kinds:
        return list(cls.kinds)
    kinds = ["text"] if overrides(cls, "on_text") else []
    if overrides(cls, "on_filter"):
        kinds.append("filter")
    if cls.speaks is not None:
        kinds.append("agent")
    if _hears(cls) or not kinds:
        kinds.append("tap")
    return kinds
