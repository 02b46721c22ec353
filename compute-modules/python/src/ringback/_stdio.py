"""The transport of a module that the bridge starts as its child: frames over standard input and output.

Standard output belongs to the contract alone. `run` takes both streams away from everybody else first, so that a `print`, or a
C library that writes to file descriptor 1, ends up on standard error, which is the module's log.
"""

import os
import select
import signal
import sys
import threading
from typing import Any, NoReturn, Optional, Tuple, Type

from ._host import Host
from ._module import Module
from ._outbox import Outbox
from ._wire import FrameReader, WireError, frame

EXIT_OK = 0
EXIT_USAGE = 64
EXIT_DATA = 65
EXIT_FAILED = 70
STOP_SECONDS = 1.5
"""Time for all handlers to return when the process has to end."""
EXIT_SECONDS = 0.5
"""Time for Python to shut down after that."""
READ_OCTETS = 65_536

CLAIM_AT_IMPORT = "RINGBACK_STDIO"
"""Environment variable: `1` takes the standard streams as soon as this package is imported."""

HELP = """\
{name} is a compute module: a Ringback bridge starts it and talks to it through standard input.
Without a bridge, play a recording to it:

    python3 -m ringback.testing {script} call.wav

Or have it wait for bridges that dial it:

    python3 {script} --serve 127.0.0.1:9000

Or dial a bridge and wait there:

    python3 {script} --connect wss://bridge.example/modules/NAME

Or have it work for bridges on a NATS cluster:

    python3 {script} --nats nats://127.0.0.1:4222 --group my-group
"""


class StdioLink:
    """Frames into a file descriptor."""

    def __init__(self, fd: int, on_broken: Any) -> None:
        self._fd = fd
        self._outbox = Outbox(self._write, on_broken)

    def send(self, slot: int, kind: int, body: bytes, urgent: bool = False) -> None:
        """Queues one message."""
        self._outbox.put(frame(kind, slot, body), urgent)

    async def drained(self) -> None:
        """Returns when there is room again."""
        await self._outbox.drained()

    def close(self, seconds: float) -> None:
        """Writes what is queued, at most for `seconds`."""
        self._outbox.close(seconds)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]


class _Alarm:
    """Wakes the reading thread from other threads and on signals."""

    def __init__(self) -> None:
        self.fd, self._end = os.pipe()
        os.set_blocking(self._end, False)
        self.code = EXIT_OK

    def ring(self, code: int = EXIT_OK) -> None:
        """The process has to end, with this code."""
        self.code = max(self.code, code)
        try:
            os.write(self._end, b"\0")
        except BlockingIOError:
            pass  # It rings already.

    def on_signals(self) -> None:
        """Rings on SIGTERM."""
        if threading.current_thread() is not threading.main_thread():
            return
        # Not from the handler: a signal just before `select` would set the handler aside until `select` returns.
        signal.set_wakeup_fd(self._end, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: None)
        # Ctrl-C in a terminal reaches the whole group; the bridge drains its calls and then closes standard input.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def heard(self) -> bool:
        """Whether what woke the reader means the end; other signals a module handles do not."""
        woken_by = os.read(self.fd, 512)
        return 0 in woken_by or signal.SIGTERM in woken_by


def run(module_class: Type[Module]) -> NoReturn:
    """Serves the bridge that started this process until it closes standard input or sends SIGTERM, then exits.

    Exit codes: 0 all done, 64 started by hand, 65 standard input is no bridge, 70 the module could not be loaded.
    Call it from the main thread, last in your script.
    """
    if os.name != "posix":
        sys.exit("ringback: modules run on Linux, macOS and other POSIX systems")
    if _claimed is None and sys.stdin is not None and sys.stdin.isatty():
        script = os.path.basename(sys.argv[0]) or "my_module.py"
        sys.stderr.write(HELP.format(name=getattr(module_class, "__name__", "This"), script=script))
        sys.exit(EXIT_USAGE)
    incoming, outgoing = _claim_stdio()
    alarm = _Alarm()
    link = StdioLink(outgoing, alarm.ring)
    host = Host(module_class, link, lambda: alarm.ring(EXIT_FAILED))
    alarm.on_signals()
    host.start()
    code = _read(incoming, alarm, host)
    finished = host.close(STOP_SECONDS)
    link.close(0.2)
    leave(code, finished)


def _read(fd: int, alarm: _Alarm, host: Host) -> int:
    """Reads until the end; the exit code."""
    reader = FrameReader()
    try:
        while True:
            readable, _, _ = select.select([fd, alarm.fd], [], [])
            if alarm.fd in readable and alarm.heard():
                return alarm.code
            if fd not in readable:
                continue
            data = os.read(fd, READ_OCTETS)
            if not data:
                if reader.pending:
                    print("ringback: standard input ended within a frame", file=sys.stderr)
                return EXIT_OK
            for kind, slot, body in reader.feed(data):
                host.receive(kind, slot, body)
    except WireError as error:
        print(f"ringback: standard input: {error}", file=sys.stderr)
        return EXIT_DATA


def _claim_stdio() -> Tuple[int, int]:
    """File descriptors of the real standard streams; 0 then is empty and 1 is standard error. Again, the same ones."""
    global _claimed
    if _claimed is not None:
        return _claimed
    incoming, outgoing = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)
    _claimed = incoming, outgoing
    return _claimed


def is_child() -> bool:
    """Whether a bridge said so when it started this process."""
    return _claimed is not None


_claimed: Optional[Tuple[int, int]] = None
# A bridge that sets this for its children lets a module print even while it is being imported, long before `run`.
if os.environ.pop(CLAIM_AT_IMPORT, None) == "1":
    _claim_stdio()


def leave(code: int, finished: bool) -> NoReturn:
    """Ends the process; `finished` says whether all handlers have returned."""
    sys.stdout.flush()
    sys.stderr.flush()
    if finished:
        # A module may have left threads that Python would wait for; nobody else waits for this process.
        watchdog = threading.Timer(EXIT_SECONDS, os._exit, (code,))
        watchdog.daemon = True
        watchdog.start()
        sys.exit(code)
    # A handler still runs, perhaps in C code that never returns; an orderly shutdown would wait for it or crash on it.
    print("ringback: on_load or a handler did not return in time", file=sys.stderr, flush=True)
    os._exit(code)
