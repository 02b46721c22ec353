"""The way out: a bounded queue in front of whatever carries octets to the bridge. Knows nothing of messages."""

import asyncio
import collections
import threading
from typing import Callable, Deque, List, Protocol, Tuple


class Link(Protocol):
    """What sessions need of a transport. One implementation per transport."""

    def send(self, slot: int, kind: int, body: bytes, urgent: bool = False) -> None:
        """Queues one message. Waits while too much is queued, unless `urgent` or called from an event loop."""

    async def drained(self) -> None:
        """Returns when there is room again."""


class Outbox:
    """Writes queued octets on a thread of its own, so that a stalled reader at the far end stalls nobody here but talkers.

    `write` takes all octets it is given or raises `OSError`; then the far end is gone: `on_broken` is called once, what is
    queued is forgotten and nothing is taken any more.
    """

    LIMIT = 1 << 20
    """Octets queued beyond which `put` waits: 32 s of 16 kHz samples."""
    HARD_LIMIT = 8 << 20
    """Octets queued beyond which `put` raises where it may not wait."""

    def __init__(self, write: Callable[[bytes], None], on_broken: Callable[[], None]) -> None:
        self._write = write
        self._on_broken = on_broken
        self._queue: Deque[bytes] = collections.deque()
        self._octets = 0
        self._broken = False
        self._closing = False
        self._waiters: List[Tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]] = []
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="ringback-out", daemon=True)
        self._thread.start()

    def put(self, data: bytes, urgent: bool = False) -> None:
        """Queues `data`, in front of everything if `urgent`.

        Raises `BufferError` in an event loop that queues without ever awaiting `drained`.
        """
        with self._changed:
            if urgent and self._octets < self.HARD_LIMIT:
                self._queue.appendleft(data)
            elif not urgent:
                self._wait_for_room()
                self._queue.append(data)
            else:
                return  # Whoever reads nothing of 8 MiB misses no pong either.
            self._octets += len(data)
            if self._broken:
                self._forget()
            self._changed.notify_all()

    def _wait_for_room(self) -> None:
        if self._octets < self.LIMIT:
            return
        if _in_event_loop():
            if self._octets >= self.HARD_LIMIT:
                raise BufferError(
                    "the bridge takes this sound slower than you make it; await s.drain() between plays"
                )
            return
        while self._octets >= self.LIMIT and not self._broken:
            self._changed.wait()

    async def drained(self) -> None:
        """Returns when `put` would not wait."""
        loop = asyncio.get_running_loop()
        with self._changed:
            if self._octets < self.LIMIT or self._broken:
                return
            waiter: "asyncio.Future[None]" = loop.create_future()
            self._waiters.append((loop, waiter))
        await waiter

    def close(self, timeout: float) -> bool:
        """Writes what is queued, at most for `timeout` seconds; whether all of it went out."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive() and not self._broken

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closing:
                    self._changed.wait()
                if not self._queue:
                    return
                data = self._queue.popleft()
            try:
                self._write(data)
            except OSError:
                with self._changed:
                    self._broken = True
                    self._forget()
                self._on_broken()
                return
            with self._changed:
                self._octets -= len(data)
                if self._octets < self.LIMIT:
                    self._wake()

    def _forget(self) -> None:
        self._queue.clear()
        self._octets = 0
        self._wake()

    def _wake(self) -> None:
        self._changed.notify_all()
        for loop, waiter in self._waiters:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, waiter)
        self._waiters.clear()


def _resolve(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
