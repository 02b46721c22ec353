"""What several tests need: a module run as a child, and the bridge's side of its pipes."""

import json
import os
import queue
import subprocess
import sys
import tempfile
import textwrap
import threading
from typing import Any, Dict, List, Optional, Tuple

HERE = os.path.dirname(os.path.abspath(__file__))
SRC = os.path.join(HERE, "..", "src")
sys.path.insert(0, SRC)

from ringback import _websocket as ws  # noqa: E402
from ringback._wire import AUDIO, JSON, FrameReader, dump, frame, load  # noqa: E402

PATIENCE = 10.0
"""Seconds after which a test gives up; nothing here should take one."""
START: Dict[str, Any] = {
    "type": "start",
    "v": 1,
    "session": "s1",
    "call": {"id": "c1", "from": "+15550100", "provider": "twilio"},
    "config": {"greeting": "hi"},
    "offer": {
        "tracks": [{"id": 0, "role": "caller"}],
        "in": [{"encoding": "pcmu", "rate": 8000}],
        "out": [{"encoding": "pcmu", "rate": 8000}],
    },
}


LISTENER = """
    class Listener(ringback.Module):
        version, rate, speaks = "1.2", 8000, 8000
        def on_audio(self, s, pcm):
            s.event("heard", {"octets": len(pcm), "now_ms": s.now_ms})
            s.play(pcm)
        def on_stop(self, s):
            print("stopped", s.stop_reason, flush=True)
            s.event("stopped", s.stop_reason)
    ringback.run(Listener)
"""
"""A module that tells what it hears, and says it again."""


class Program:
    """A module script that runs with these arguments, and what it prints."""

    def __init__(self, body: str, *arguments: str, stdin: Optional[int] = None, **environment: str) -> None:
        script = "import ringback, sys, os, time\n" + textwrap.dedent(body)
        # A folder of its own: Python imports from where a script lies, and others put things called ast.py into the common one.
        self._folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self._folder.name, "module_under_test.py")
        with open(self.path, "w") as file:
            file.write(script)
        self.process = subprocess.Popen(
            [sys.executable, self.path, *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": SRC, **environment},
        )

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        self.process.stdout.close()
        self.process.stderr.close()
        self._folder.cleanup()


class Messages:
    """What comes over a WebSocket, as `next` has it: an opcode and a payload at a time."""

    def next(self) -> Tuple[int, bytes]:
        raise NotImplementedError

    def until(self, type: str) -> Dict[str, Any]:
        while True:
            opcode, payload = self.next()
            if opcode == ws.TEXT and json.loads(payload)["type"] == type:
                return json.loads(payload)

    def closed(self) -> int:
        while True:
            opcode, payload = self.next()
            if opcode == ws.CLOSE:
                return ws.close_code(payload)


class Child(Program):
    """A module script with both its pipes."""

    def __init__(self, body: str, **environment: str) -> None:
        super().__init__(body, stdin=subprocess.PIPE, **environment)
        self.arrived: "queue.Queue[Optional[Tuple[int, int, bytes]]]" = queue.Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self._stderr = ""
        self._errors = threading.Thread(target=self._read_errors, daemon=True)
        self._errors.start()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self._thread.join(PATIENCE)
        self._errors.join(PATIENCE)
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        super().close()

    def raw(self, octets: bytes) -> None:
        self.process.stdin.write(octets)
        self.process.stdin.flush()

    def say(self, message: Dict[str, Any], slot: int = 1) -> None:
        self.raw(frame(JSON, slot, dump(message)))

    def sound(self, samples: bytes, slot: int = 1) -> None:
        self.raw(frame(AUDIO, slot, samples))

    def next(self) -> Tuple[int, int, Any]:
        """The next thing said: kind, slot, and the message or samples."""
        arrived = self.arrived.get(timeout=PATIENCE)
        if arrived is None:
            raise AssertionError(f"the module is gone: {self.stderr()}")
        kind, slot, body = arrived
        return kind, slot, load(body) if kind == JSON else body

    def until(self, type: str) -> Dict[str, Any]:
        """The next message of a type."""
        while True:
            kind, _, message = self.next()
            if kind == JSON and message["type"] == type:
                return message

    def rest(self) -> List[Tuple[int, int, Any]]:
        """All that is said until the process ends."""
        said = []
        while True:
            arrived = self.arrived.get(timeout=PATIENCE)
            if arrived is None:
                return said
            kind, slot, body = arrived
            said.append((kind, slot, load(body) if kind == JSON else body))

    def begin(self) -> Dict[str, Any]:
        """Starts the session of slot 1."""
        self.say(START)
        return self.until("ready")

    def end(self) -> int:
        """Closes standard input; the exit code."""
        self.process.stdin.close()
        return self.process.wait(PATIENCE)

    def stderr(self) -> str:
        """What the process wrote there, once it has ended."""
        self.process.wait(PATIENCE)
        self._errors.join(PATIENCE)
        return self._stderr

    def _read(self) -> None:
        reader = FrameReader()
        while True:
            data = self.process.stdout.read1(65_536)
            if not data:
                break
            for arrived in reader.feed(data):
                self.arrived.put(arrived)
        self.arrived.put(None)

    def _read_errors(self) -> None:
        self._stderr = self.process.stderr.read().decode()
