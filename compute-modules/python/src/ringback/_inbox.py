"""The way in of one session: sound and messages in order, bounded in time. Calls no handler."""

import collections
import threading
import time
from typing import Deque, Dict, Optional, Tuple, Union

from ._messages import Frame
from ._wire import Message, WireError

Item = Union[Frame, Message]

MAX_MESSAGES = 1024
"""Messages waiting for a handler beyond which the bridge is at fault: calls do not have so many events in 30 s."""


class Inbox:
    """A queue between the thread that reads from the bridge, which never waits here, and the one that runs handlers."""

    def __init__(self, max_ms: int) -> None:
        self._max_s = max_ms / 1000
        self._items: Deque[Item] = collections.deque()
        self._sound_s = 0.0
        self._messages = 0
        self._lost: Dict[int, Tuple[int, int]] = {}
        self._waiting = False
        self._stop: Optional[Message] = None
        self._hurry_at = 0.0
        self._changed = threading.Condition()

    def put_sound(self, frame: Frame) -> None:
        """Queues sound and drops the oldest beyond the bound; `lost` tells."""
        with self._changed:
            self._items.append(frame)
            self._sound_s += frame.samples / frame.rate
            while self._sound_s > self._max_s:
                self._drop_oldest()
            self._changed.notify_all()

    def put_message(self, message: Message) -> None:
        """Queues a message. Raises `WireError` when far more wait than a call can have."""
        with self._changed:
            self._messages += 1
            if self._messages > MAX_MESSAGES:
                raise WireError(
                    f"over {MAX_MESSAGES} messages wait for one handler; it is stuck or the bridge floods"
                )
            self._items.append(message)
            self._changed.notify_all()

    def stop(self, message: Message, deadline_s: float) -> None:
        """Ends the queue with `message`. What waits is still taken until half of `deadline_s` has passed."""
        with self._changed:
            hurry_at = time.monotonic() + deadline_s / 2
            self._hurry_at = min(self._hurry_at, hurry_at) if self._stop else hurry_at
            self._stop = self._stop or message
            self._changed.notify_all()

    def get(self) -> Item:
        """The next item, waiting for it. The `stop` message comes last and then always."""
        with self._changed:
            while True:
                late = self._stop is not None and time.monotonic() >= self._hurry_at
                if self._items and not late:
                    return self._take()
                if self._stop is not None:
                    return self._stop
                self._waiting = True
                self._changed.notify_all()
                self._changed.wait()
                self._waiting = False

    def lost(self) -> Dict[int, Tuple[int, int]]:
        """Sound dropped since the last time this was asked: by track, from and to which position."""
        with self._changed:
            lost, self._lost = self._lost, {}
            return lost

    def wait_idle(self, timeout: float) -> bool:
        """Waits until all is taken and its taker is back for more; whether that came about in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._waiting and not self._items, timeout)

    @property
    def sound_ms(self) -> int:
        """Sound that waits."""
        return round(self._sound_s * 1000)

    def _take(self) -> Item:
        item = self._items.popleft()
        if isinstance(item, Frame):
            self._sound_s -= item.samples / item.rate
        else:
            self._messages -= 1
        return item

    def _drop_oldest(self) -> None:
        for index, item in enumerate(self._items):
            if isinstance(item, Frame):
                self._sound_s -= item.samples / item.rate
                begin, _ = self._lost.get(item.track, (item.pts, 0))
                self._lost[item.track] = (begin, item.pts + item.samples)
                del self._items[index]
                return
        self._sound_s = 0.0
