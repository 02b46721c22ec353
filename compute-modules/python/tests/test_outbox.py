"""The queue in front of the pipe to the bridge."""

import asyncio
import threading
import unittest

from ringback._outbox import Outbox

from . import support  # noqa: F401


class Gate:
    """A writer that holds each piece until it is let through."""

    def __init__(self):
        self.written = []
        self.entered = threading.Semaphore(0)
        self.open = threading.Semaphore(0)

    def __call__(self, data):
        self.entered.release()
        self.open.acquire()
        if data == b"broken":
            raise BrokenPipeError
        self.written.append(data)

    def let(self, count):
        for _ in range(count):
            self.open.release()


class Order(unittest.TestCase):
    def test_urgent_passes_what_waits(self):
        gate = Gate()
        box = Outbox(gate, self.fail)
        box.put(b"1")
        gate.entered.acquire()
        for data in (b"2", b"3"):
            box.put(data)
        box.put(b"pong", urgent=True)
        gate.let(4)
        self.assertTrue(box.close(10))
        self.assertEqual(gate.written, [b"1", b"pong", b"2", b"3"])


class Bounds(unittest.TestCase):
    def test_a_talker_waits_until_there_is_room(self):
        gate = Gate()
        box = Outbox(gate, self.fail)
        box.put(bytes(Outbox.LIMIT))
        went_on = threading.Event()
        talker = threading.Thread(target=lambda: (box.put(b"x"), went_on.set()))
        talker.start()
        gate.entered.acquire()
        self.assertFalse(went_on.is_set())
        gate.let(1)
        self.assertTrue(went_on.wait(10))
        gate.let(1)
        self.assertTrue(box.close(10))

    def test_a_coroutine_is_told_to_drain(self):
        gate = Gate()
        box = Outbox(gate, self.fail)

        async def talk():
            for _ in range(Outbox.HARD_LIMIT // Outbox.LIMIT):
                box.put(bytes(Outbox.LIMIT))
            with self.assertRaisesRegex(BufferError, "drain"):
                box.put(b"x")
            drained = asyncio.ensure_future(box.drained())
            await asyncio.sleep(0)
            self.assertFalse(drained.done())
            gate.let(100)
            await asyncio.wait_for(drained, 10)
            box.put(b"y")

        asyncio.run(talk())
        self.assertTrue(box.close(10))
        self.assertEqual(gate.written[-1], b"y")


class Broken(unittest.TestCase):
    def test_all_who_wait_are_let_go_and_it_is_told_once(self):
        gate, broken = Gate(), threading.Event()
        box = Outbox(gate, broken.set)
        box.put(b"broken")
        box.put(bytes(Outbox.LIMIT))
        talker = threading.Thread(target=box.put, args=(b"x",))
        talker.start()
        gate.let(1)
        self.assertTrue(broken.wait(10))
        talker.join(10)
        self.assertFalse(talker.is_alive())
        box.put(bytes(Outbox.LIMIT))
        box.put(b"never blocks")
        self.assertFalse(box.close(10))
        self.assertEqual(gate.written, [])


if __name__ == "__main__":
    unittest.main()
