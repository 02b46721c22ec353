"""Plays a recording to a module without any bridge: in this process (`run_wav`) or as the child it will be (`run_command`).
`run_words` is a call that carries words instead of sound.

::

    for seen in ringback.testing.run_wav(MyModule, "call.wav"):
        print(seen.at_ms, seen.message)

From a shell: `python3 -m ringback.testing my_module.py call.wav`.

What stands in for the bridge here answers every mark as played and every clear as heard to the end, at once; it has no
playback of its own, no VAD and no keys but those you pass as `messages`.
"""

import argparse
import json
import os
import queue
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Protocol, Sequence, Tuple, Type, Union

from ._host import Host
from ._module import Module
from ._sound import decode, encode, read_wav, resample, write_wav
from ._stdio import CLAIM_AT_IMPORT
from ._wire import AUDIO, JSON, FrameReader, Message, dump, frame, load, pack_audio, unpack_audio

SLOT = 1
"""The slot of the one session."""
TIMEOUT_S = 60.0
"""A module that says nothing for so long where it owes an answer fails the run."""

Arrived = Tuple[int, bytes]


class ModuleFailed(Exception):
    """The module turned the session down, went away in it or did not answer."""


@dataclass(frozen=True)
class Seen:
    """One thing a module said."""

    at_ms: int
    """How much sound it had been sent by then."""
    after_s: float
    """Seconds since the first of that sound was sent."""
    message: Message
    """What; `{"type": "audio"}` for sound."""
    audio: bytes = b""
    """The samples, if it is sound."""

    @property
    def type(self) -> str:
        """Of the message."""
        return str(self.message["type"])


class _Peer(Protocol):
    """A module, wherever it runs. `arrived` has None when it is gone."""

    arrived: "queue.Queue[Optional[Arrived]]"

    def send(self, kind: int, body: bytes) -> None: ...
    def wait_idle(self) -> bool: ...
    def close(self) -> None: ...


class _InProcess:
    """A module class run here."""

    def __init__(self, module_class: Type[Module]) -> None:
        self.arrived: "queue.Queue[Optional[Arrived]]" = queue.Queue()
        self._link = _QueueLink(self.arrived)
        self._host = Host(module_class, self._link, lambda: self.arrived.put(None))
        self._host.start()

    def send(self, kind: int, body: bytes) -> None:
        self._host.receive(kind, SLOT, body)

    def wait_idle(self) -> bool:
        runner = self._host.session(SLOT)
        return runner is None or runner.inbox.wait_idle(0.05)

    def close(self) -> None:
        self._host.close(1.0)


class _QueueLink:
    def __init__(self, arrived: "queue.Queue[Optional[Arrived]]") -> None:
        self._arrived = arrived

    def send(self, slot: int, kind: int, body: bytes, urgent: bool = False) -> None:
        if slot == SLOT:
            self._arrived.put((kind, body))

    async def drained(self) -> None:
        return


class Child:
    """A command that speaks the contract on its standard streams."""

    def __init__(self, command: Sequence[str]) -> None:
        self.arrived: "queue.Queue[Optional[Arrived]]" = queue.Queue()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, CLAIM_AT_IMPORT: "1"},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, kind: int, body: bytes) -> None:
        """One message into the session."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(frame(kind, SLOT, body))
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # The reader sees the end too, and `arrived` says so.

    def wait_idle(self) -> bool:
        """Nobody knows, of a process."""
        return True

    def close(self) -> None:
        """Closes its standard input and waits for it to end, killing it after 5 s."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(5)
        self.process.stdout.close()

    def _read(self) -> None:
        reader = FrameReader()
        assert self.process.stdout is not None
        while True:
            data = self.process.stdout.read1(65_536)  # type: ignore[attr-defined]
            if not data:
                break
            for kind, slot, body in reader.feed(data):
                if slot == SLOT:
                    self.arrived.put((kind, body))
        self.arrived.put(None)


def run_wav(
    module_class: Type[Module],
    wav: str,
    *,
    speed: Optional[float] = None,
    config: Any = None,
    messages: Sequence[Tuple[int, Message]] = (),
    resume_ms: Optional[int] = None,
) -> Iterator[Seen]:
    """Runs a session of `module_class` over the sound of a WAV file; yields all it says, to the end.

    `speed` 1 is the pace of a call; None sends each frame when the handlers are done with the one before. `messages` are sent
    when so many ms of sound were: `[(2000, {"type": "dtmf", "digit": "5"})]`. `resume_ms` starts as after a crash, with the
    sound from there.
    Raises `ModuleFailed` if the module turns the session down or stops answering.
    """
    peer = _InProcess(module_class)
    yield from _run(peer, wav, speed, config, messages, resume_ms)


def run_command(
    command: Sequence[str],
    wav: str,
    *,
    speed: float = 1.0,
    config: Any = None,
    messages: Sequence[Tuple[int, Message]] = (),
    resume_ms: Optional[int] = None,
) -> Iterator[Seen]:
    """Like `run_wav` with a child process, in any language: exactly what the bridge starts."""
    yield from _run(Child(command), wav, speed, config, messages, resume_ms)


def run_words(
    module_class: Type[Module],
    words: Sequence[Union[str, Message]],
    *,
    config: Any = None,
) -> Iterator[Seen]:
    """Runs a session on a call that carries words: says each of `words` to the module, when its handlers are done with the one
    before; yields all it says, to the end. A message instead of words is sent as it is: `{"type": "dtmf", "digit": "5"}`.

    Raises `ModuleFailed` if the module turns the session down or stops answering.
    """
    peer = _InProcess(module_class)
    driver = _Driver(peer, None, config, None)
    try:
        yield from driver.start()
        yield from driver.words(words)
        yield from driver.stop()
    finally:
        peer.close()


def _run(
    peer: _Peer,
    wav: str,
    speed: Optional[float],
    config: Any,
    messages: Sequence[Tuple[int, Message]],
    resume_ms: Optional[int],
) -> Iterator[Seen]:
    driver = _Driver(peer, wav, config, resume_ms)
    try:
        yield from driver.start()
        yield from driver.sound(speed, sorted(messages, key=lambda timed: timed[0]))
        yield from driver.stop()
    finally:
        peer.close()


class _Driver:
    """The bridge's side of one session."""

    def __init__(
        self, peer: _Peer, wav: Optional[str], config: Any, resume_ms: Optional[int]
    ) -> None:
        self._peer = peer
        self._rate: Optional[int] = None
        self._samples: List[int] = []
        if wav is not None:
            self._rate, self._samples = read_wav(wav)
        self._config = config
        self._resume_ms = resume_ms
        self._accept: Dict[str, Any] = {}
        self._sent_ms = resume_ms or 0
        self._epoch = 0
        self._played = 0
        self._over = False
        self._began = time.monotonic()

    def start(self) -> Iterator[Seen]:
        """Offers the session and waits until it is taken."""
        self._send(_start(self._config, self._resume_ms, self._rate))
        for seen in self._until("ready"):
            yield seen
            if seen.type == "reject":
                raise ModuleFailed(f"rejected: {seen.message}")
            if seen.type == "ready":
                self._accept = seen.message["accept"]

    def sound(
        self, speed: Optional[float], messages: Sequence[Tuple[int, Message]]
    ) -> Iterator[Seen]:
        """Sends the recording at its pace, and each message at its time."""
        pending = list(messages)
        began, first_ms = time.monotonic(), self._sent_ms
        self._began = began
        for pts, body, end_ms in self._frames():
            if speed is None:
                yield from self._settled()
            else:
                yield from self._due(began + (end_ms - first_ms) / 1000 / speed)
            if self._over:
                return
            while pending and pending[0][0] <= self._sent_ms:
                self._send(pending.pop(0)[1])
            if self._accept.get("framing") == "hdr16":
                body = pack_audio(0, 0, pts, body)
            if self._accept.get("in"):
                self._peer.send(AUDIO, body)
            self._sent_ms = end_ms
        for _, message in pending:
            self._send(message)
        if speed is None:
            yield from self._settled()

    def words(self, words: Sequence[Union[str, Message]]) -> Iterator[Seen]:
        """Sends what the caller says, one utterance after the other."""
        for count, message in enumerate(words, 1):
            if isinstance(message, str):
                text = {"id": f"p{count}", "track": 0, "text": message, "final": True}
                message = {"type": "text", **text, "start_ms": 0, "end_ms": 0}
            self._send(message)
            yield from self._settled()
            if self._over:
                return

    def stop(self) -> Iterator[Seen]:
        """Ends the session and takes its last words."""
        if self._over:
            return
        self._send({"type": "stop", "reason": "hangup", "deadline_ms": int(TIMEOUT_S * 1000)})
        yield from self._until("done")

    def _frames(self) -> Iterator[Tuple[int, bytes, int]]:
        wants = self._accept.get("in") or {"encoding": "pcm_s16le", "rate": self._rate}
        assert self._rate is not None
        rate = int(wants["rate"])
        size = max(1, rate * int(wants.get("frame_ms", 20)) // 1000)
        samples = resample(self._samples, self._rate, rate)
        for pts in range((self._resume_ms or 0) * rate // 1000, len(samples), size):
            piece = samples[pts : pts + size]
            piece += [0] * (size - len(piece))
            yield pts, encode(piece, str(wants["encoding"])), (pts + size) * 1000 // rate

    def _due(self, due: float) -> Iterator[Seen]:
        """What arrives until `due`."""
        while True:
            try:
                arrived = self._peer.arrived.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                return
            yield self._seen(arrived)

    def _settled(self) -> Iterator[Seen]:
        """What arrives until the handlers are done with all they were sent, also in answer to it."""
        idle = False
        while not idle:
            idle = self._peer.wait_idle()
            while not self._peer.arrived.empty():
                idle = False
                yield self._seen(self._peer.arrived.get())

    def _until(self, type: str) -> Iterator[Seen]:
        while True:
            try:
                arrived = self._peer.arrived.get(timeout=TIMEOUT_S)
            except queue.Empty:
                raise ModuleFailed(f"no {type} within {TIMEOUT_S:.0f} s") from None
            seen = self._seen(arrived)
            yield seen
            if self._over or seen.type in (type, "reject"):
                return

    def _seen(self, arrived: Optional[Arrived]) -> Seen:
        if arrived is None:
            raise ModuleFailed("the module is gone; what it wrote to standard error says why")
        kind, body = arrived
        after_s = time.monotonic() - self._began
        if kind == AUDIO:
            if self._accept.get("framing") == "hdr16":
                body = unpack_audio(body)[4]
            self._played += len(body)
            return Seen(self._sent_ms, after_s, {"type": "audio", "octets": len(body)}, body)
        message = load(body)
        self._over = message["type"] == "error" and bool(message["fatal"])
        self._answer(message)
        return Seen(self._sent_ms, after_s, message)

    def _answer(self, message: Message) -> None:
        if message["type"] == "mark":
            report = {"name": message["name"], "epoch": self._epoch, "status": "played"}
            self._send({"type": "mark", **report, "played_ms": self._played_ms()})
        elif message["type"] == "clear":
            report = {"epoch": self._epoch, "played_ms": self._played_ms(), "discarded_ms": 0}
            self._epoch, self._played = self._epoch + 1, 0
            self._send({"type": "cleared", **report})

    def _played_ms(self) -> int:
        out = self._accept.get("out")
        return (
            len(decode(b"\0" * self._played, out["encoding"])) * 1000 // out["rate"] if out else 0
        )

    def _send(self, message: Message) -> None:
        self._peer.send(JSON, dump(message))


def _start(config: Any, resume_ms: Optional[int], rate: Optional[int]) -> Message:
    """`rate` is None on a call that carries words."""
    rates = () if rate is None else (rate, 8000, 16000, 24000)
    formats = [{"encoding": "pcm_s16le", "rate": r} for r in rates]
    sound = ["clear", "mark", "playback", "finalize", "resume"]
    start: Message = {
        "type": "start",
        "v": 1,
        "session": "test",
        "wall": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kind": "agent",
        "call": {"id": "test", "from": "caller", "direction": "inbound", "provider": "test"},
        "config": config,
        "offer": {
            "tracks": [{"id": 0, "role": "caller"}] if formats else [],
            "in": formats,
            "out": formats,
            "frame_ms": [10, 20, 40, 60, 100],
            "framing": ["raw", "hdr16"],
            "features": sound if formats else ["text", "say", "play", "spoken", "language", "hangup", "resume"],
        },
    }
    if resume_ms is not None:
        start["resume"] = {"from_ms": resume_ms}
    return start


def word_errors(reference: str, heard: str) -> Tuple[int, int]:
    """Words wrong (substituted, missing or too many; the fewest that explain it) and words in `reference`."""
    wanted, got = reference.lower().split(), heard.lower().split()
    row = list(range(len(got) + 1))
    for i, word in enumerate(wanted, 1):
        above, row = row, [i]
        for j, other in enumerate(got, 1):
            row.append(min(row[-1] + 1, above[j] + 1, above[j - 1] + (word != other)))
    return row[-1], len(wanted)


def word_error_rate(reference: str, heard: str) -> float:
    """`word_errors` as a fraction: 0 is perfect, and it may exceed 1."""
    wrong, words = word_errors(reference, heard)
    return wrong / max(1, words)


def main(arguments: Optional[List[str]] = None) -> int:
    """The command line; see the top of this file."""
    parser = argparse.ArgumentParser(prog="python3 -m ringback.testing")
    parser.description = "Plays a recording to a module and prints what it says."
    parser.add_argument("module", help="a Python file that calls ringback.run, or any executable")
    parser.add_argument("wav", help="16-bit, mu-law or A-law WAV file")
    parser.add_argument("--speed", type=float, default=1.0, help="1 is the pace of a call")
    parser.add_argument("--config", type=json.loads, help="the module's configuration, as JSON")
    parser.add_argument("--out", help="WAV file for the sound the module plays")
    options = parser.parse_args(arguments)
    is_python = options.module.endswith(".py")
    command = [sys.executable, options.module] if is_python else [options.module]
    heard = b""
    out: Dict[str, Any] = {"encoding": "pcm_s16le", "rate": 16000}
    run = run_command(command, options.wav, speed=options.speed, config=options.config)
    try:
        for seen in run:
            heard += seen.audio
            if seen.type == "ready":
                out = seen.message["accept"]["out"] or out
            print(f"{seen.at_ms / 1000:8.2f} s  {json.dumps(seen.message, ensure_ascii=False)}")
    except (ModuleFailed, OSError, ValueError) as error:
        print(f"ringback.testing: {error}", file=sys.stderr)
        return 1
    if options.out:
        write_wav(options.out, int(out["rate"]), decode(heard, str(out["encoding"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
