"""The queue between the pipe and a handler."""

import unittest

from ringback._inbox import MAX_MESSAGES, Inbox
from ringback._messages import Frame
from ringback._wire import WireError

from . import support  # noqa: F401

STOP = {"type": "stop"}


def sound(index, track=0):
    """20 ms at 8 kHz."""
    return Frame(bytes(320), index * 160, 8000, 160, track)


class Bounds(unittest.TestCase):
    def test_sound_and_messages_keep_their_order(self):
        inbox = Inbox(1000)
        items = [sound(0), {"type": "dtmf"}, sound(1)]
        for item in items:
            inbox.put_sound(item) if isinstance(item, Frame) else inbox.put_message(item)
        inbox.stop(STOP, 10)
        self.assertEqual([inbox.get() for _ in range(5)], [*items, STOP, STOP])

    def test_the_oldest_sound_makes_room_and_messages_stay(self):
        inbox = Inbox(100)
        inbox.put_message({"type": "dtmf"})
        for index in range(8):
            inbox.put_sound(sound(index))
        self.assertEqual(inbox.sound_ms, 100)
        self.assertEqual(inbox.lost(), {0: (0, 3 * 160)})
        self.assertEqual(inbox.lost(), {})
        self.assertEqual(inbox.get(), {"type": "dtmf"})
        self.assertEqual(inbox.get().pts, 3 * 160)

    def test_what_is_lost_is_told_by_track(self):
        inbox = Inbox(40)
        for index in range(2):
            inbox.put_sound(sound(index, 0))
            inbox.put_sound(sound(index, 1))
        self.assertEqual(inbox.lost(), {0: (0, 160), 1: (0, 160)})

    def test_a_flood_of_messages_is_an_error(self):
        inbox = Inbox(100)
        for _ in range(MAX_MESSAGES):
            inbox.put_message({"type": "dtmf"})
        with self.assertRaises(WireError):
            inbox.put_message({"type": "dtmf"})

    def test_a_stop_that_is_due_leaves_the_rest(self):
        inbox = Inbox(1000)
        inbox.put_sound(sound(0))
        inbox.stop(STOP, 0)
        self.assertEqual(inbox.get(), STOP)


if __name__ == "__main__":
    unittest.main()
