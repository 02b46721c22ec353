"""A module as the process the bridge starts: pipes, pings, ends and everything that goes wrong around them."""

import signal
import struct
import time
import unittest

from .support import AUDIO, JSON, START, Child, frame
from ringback._wire import pack_audio, unpack_audio

LISTENER = """
    class Listener(ringback.Module):
        name, version, rate = "listener", "1.2", 8000
        def on_audio(self, s, pcm):
            s.event("heard", {"octets": len(pcm), "now_ms": s.now_ms})
        def on_dtmf(self, s, dtmf):
            s.event("key", dtmf.digit)
        def on_stop(self, s):
            s.event("stopped", s.stop_reason)
    ringback.run(Listener)
"""
FRAME = bytes(320)


FILTER = """
    class Odd(ringback.Module):
        def on_filter(self, s, pcm):
            s.state = s.rate
            if pcm[0] == 1:
                raise KeyError("one")
            if pcm[0] == 2:
                return b"x"
            return None if pcm[0] == 3 else bytes(255 - octet for octet in pcm)
    ringback.run(Odd)
"""


class Filtering(unittest.TestCase):
    def test_each_frame_is_answered_with_its_position_and_a_failure_with_nothing(self):
        with Child(FILTER) as child:
            self.assertEqual(child.next()[2]["kinds"], ["filter"])
            child.say({**START, "kind": "filter"})
            pcm = {"encoding": "pcm_s16le", "rate": 8000}
            accept = child.until("ready")["accept"]
            self.assertEqual(accept["in"], {**pcm, "frame_ms": 20})
            self.assertEqual((accept["out"], accept["framing"]), (pcm, "hdr16"))
            for place, first in enumerate([0, 1, 2, 3, 4]):
                child.sound(pack_audio(0, 0, place * 160, bytes([first]) + bytes(319)))
            answers = []
            while len(answers) < 3:
                kind, _, body = child.next()
                if kind == AUDIO:
                    _, _, _, pts, samples = unpack_audio(body)
                    answers.append((pts, samples[0], samples[1]))
            self.assertEqual(answers, [(0, 255, 255), (480, 3, 0), (640, 251, 255)])
            child.say({"type": "stop", "reason": "hangup", "deadline_ms": 3000})
            child.until("done")
            self.assertEqual(child.end(), 0)

    def test_what_cannot_filter_this_call_says_why(self):
        other = FILTER.replace("class Odd(ringback.Module):", "class Odd(ringback.Module):\n        rate = 16000")
        for script, why in [
            (LISTENER, "is no filter; override on_filter"),
            (other, "has `rate = 16000`, and a filter gets the call's own sound, here with 8000"),
        ]:
            with Child(script) as child:
                child.say({**START, "kind": "filter"})
                reject = child.until("reject")
                self.assertEqual(reject["code"], "unsupported_format")
                self.assertIn(why, reject["message"])


class Life(unittest.TestCase):
    def test_from_register_to_done(self):
        with Child(LISTENER) as child:
            kind, slot, register = child.next()
            self.assertEqual((kind, slot), (JSON, 0))
            self.assertEqual(
                register,
                {
                    "type": "register",
                    "module": "listener",
                    "version": "1.2",
                    "v": [1],
                    "kinds": ["tap"],
                    "max_sessions": 1,
                    "in": [{"encoding": "pcm_s16le", "rate": 8000}],
                },
            )
            ready = child.begin()
            heard = {"encoding": "pcm_s16le", "rate": 8000, "frame_ms": 20}
            accept = {"in": heard, "out": None, "tracks": [0], "framing": "raw"}
            self.assertEqual(ready["accept"], accept)
            self.assertEqual((ready["session"], ready["want"]), ("s1", ["dtmf"]))
            child.sound(FRAME)
            self.assertEqual(child.until("event")["data"], {"octets": 320, "now_ms": 20})
            child.say({"type": "dtmf", "digit": "5", "new_field": 1})
            self.assertEqual(child.until("event")["data"], "5")
            child.say({"type": "stop", "reason": "hangup", "deadline_ms": 3000})
            self.assertEqual(child.until("event")["data"], "hangup")
            done = child.until("done")
            self.assertEqual(done["stats"], {"in_ms": 20, "handled_ms": 20, "dropped_ms": 0})
            self.assertEqual(child.end(), 0)
            self.assertEqual(child.stderr(), "")

    def test_a_process_takes_one_session_after_another(self):
        with Child(LISTENER) as child:
            for _ in range(3):
                child.begin()
                child.say({"type": "stop", "reason": "hangup", "deadline_ms": 3000})
                child.until("done")
            self.assertEqual(child.end(), 0)

    def test_no_more_sessions_than_declared(self):
        with Child(LISTENER) as child:
            child.begin()
            child.say(START, slot=2)
            _, slot, reject = child.next()
            self.assertEqual((slot, reject["type"], reject["code"]), (2, "reject", "busy"))
            self.assertTrue(reject["retryable"])

    def test_sessions_of_one_process_are_apart(self):
        body = LISTENER.replace("rate = ", "max_sessions, rate = ").replace('"1.2", ', '"1.2", 2, ')
        with Child(body) as child:
            child.begin()
            child.say({**START, "session": "s2"}, slot=2)
            self.assertEqual(child.until("ready")["session"], "s2")
            child.sound(FRAME, slot=2)
            child.sound(FRAME + FRAME, slot=2)
            ends = {}
            for _ in range(2):
                _, slot, message = child.next()
                ends.setdefault(slot, []).append(message["data"]["now_ms"])
            self.assertEqual(ends, {2: [20, 60]})

    def test_resume_goes_on_at_its_time(self):
        with Child(LISTENER) as child:
            child.say({**START, "resume": {"from_ms": 41200}})
            child.until("ready")
            child.sound(FRAME)
            self.assertEqual(child.until("event")["data"]["now_ms"], 41220)

    def test_messages_of_a_later_version_are_ignored(self):
        with Child(LISTENER) as child:
            child.begin()
            child.say({"type": "weather", "rain": True})
            child.say({"type": "weather"}, slot=0)
            child.sound(FRAME, slot=7)
            child.say({"type": "dtmf", "digit": "1"})
            self.assertEqual(child.until("event")["data"], "1")

    def test_nothing_is_said_before_ready(self):
        body = """
            class Greeter(ringback.Module):
                speaks = 8000
                def on_start(self, s):
                    s.play(bytes(1600)); s.mark("greeted")
                def on_audio(self, s, pcm): pass
            ringback.run(Greeter)
        """
        with Child(body) as child:
            child.say(START)
            said = [child.next() for _ in range(5)]
            types = [m["type"] if kind == JSON else len(m) for kind, _, m in said]
            self.assertEqual(types, ["register", "ready", "audio.begin", 1600, "mark"])

    def test_loading_takes_its_time_and_pings_are_answered(self):
        body = """
            class Slow(ringback.Module):
                def on_load(self):
                    while not os.path.exists(__file__ + ".go"): time.sleep(0.01)
                    os.unlink(__file__ + ".go")
                def on_audio(self, s, pcm): pass
            ringback.run(Slow)
        """
        with Child(body) as child:
            child.say(START)
            child.say({"type": "ping", "t": 7}, slot=0)
            self.assertEqual(child.next()[2], {"type": "pong", "t": 7})
            with open(child.path + ".go", "w"):
                pass
            # That it has loaded what it needs is what registering says.
            self.assertEqual(child.next()[2]["type"], "register")
            self.assertEqual(child.next()[2]["type"], "ready")

    def test_a_module_that_cannot_load_says_why(self):
        body = """
            class Broken(ringback.Module):
                def on_load(self): raise OSError("no such model")
            ringback.run(Broken)
        """
        with Child(body) as child:
            self.assertEqual(child.process.wait(10), 70)
            self.assertIn("no such model", child.stderr())


class Health(unittest.TestCase):
    def test_a_handler_that_computes_does_not_hold_up_pongs(self):
        body = """
            class Busy(ringback.Module):
                rate = 8000
                def on_audio(self, s, pcm):
                    end = time.monotonic() + 2
                    while time.monotonic() < end: sum(range(1000))
            ringback.run(Busy)
        """
        with Child(body) as child:
            child.begin()
            child.sound(FRAME)
            slowest = 0.0
            for t in range(5):
                asked = time.monotonic()
                child.say({"type": "ping", "t": t}, slot=t % 2)
                _, slot, pong = child.next()
                self.assertEqual((slot, pong), (t % 2, {"type": "pong", "t": t}))
                slowest = max(slowest, time.monotonic() - asked)
            self.assertLess(slowest, 0.5)

    def test_who_is_interrupted_learns_it_from_play(self):
        body = """
            class Agent(ringback.Module):
                speaks = 8000
                def on_dtmf(self, s, dtmf):
                    while s.play(bytes(320)): time.sleep(0.01)
                    s.event("interrupted")
                def on_cleared(self, s, cleared):
                    s.event("again", s.play(bytes(320)))
            ringback.run(Agent)
        """
        with Child(body) as child:
            child.begin()
            child.say({"type": "dtmf", "digit": "1"})
            self.assertEqual(child.until("audio.begin")["epoch"], 0)
            child.say({"type": "cleared", "epoch": 0, "played_ms": 20, "discarded_ms": 0})
            self.assertEqual(child.until("event")["name"], "interrupted")
            self.assertEqual(child.until("audio.begin")["epoch"], 1)
            self.assertTrue(child.until("event")["data"])

    def test_print_and_c_output_cannot_reach_the_contract(self):
        body = """
            class Chatty(ringback.Module):
                rate = 8000
                def on_audio(self, s, pcm):
                    print("from print")
                    os.write(1, b"from file descriptor 1\\n")
                    os.system("echo from a child")
                    s.event("read", sys.stdin.read())
            ringback.run(Chatty)
        """
        with Child(body) as child:
            child.begin()
            child.sound(FRAME)
            self.assertEqual(child.until("event")["data"], "")
            self.assertEqual(child.end(), 0)
            for line in ("from print", "from file descriptor 1", "from a child"):
                self.assertIn(line, child.stderr())

    def test_output_before_run_cannot_either(self):
        body = """
            print("loading", flush=True)
            ringback.run(type("Quiet", (ringback.Module,), {}))
        """
        with Child(body, RINGBACK_STDIO="1") as child:
            child.begin()
            self.assertEqual(child.end(), 0)
            self.assertEqual(child.stderr(), "loading\n")
        with Child(body.replace(", flush=True", ""), PYTHONUNBUFFERED="") as child:
            child.begin()
            self.assertEqual(child.end(), 0)
            self.assertEqual(child.stderr(), "loading\n")

    def test_an_exception_is_reported_and_the_session_goes_on(self):
        body = """
            class Fragile(ringback.Module):
                rate = 8000
                def on_audio(self, s, pcm):
                    if s.now_ms == 20: raise ValueError("bad sample")
                    s.event("fine")
            ringback.run(Fragile)
        """
        with Child(body) as child:
            child.begin()
            child.sound(FRAME)
            error = child.until("error")
            self.assertEqual((error["code"], error["fatal"]), ("exception", False))
            self.assertEqual(error["message"], "on_audio: ValueError: bad sample")
            child.sound(FRAME)
            self.assertEqual(child.until("event")["name"], "fine")
            self.assertEqual(child.end(), 0)
            self.assertIn("Traceback", child.stderr())
            self.assertIn("session s1: on_audio failed", child.stderr())

    def test_a_handler_that_always_fails_ends_its_session_only(self):
        body = """
            class Hopeless(ringback.Module):
                rate = 8000
                def on_audio(self, s, pcm): raise ValueError("never works")
            ringback.run(Hopeless)
        """
        with Child(body) as child:
            child.begin()
            for _ in range(15):
                child.sound(FRAME)
            errors = [child.until("error")["fatal"] for _ in range(10)]
            self.assertEqual(errors, [False] * 9 + [True])
            child.say({"type": "ping", "t": 1}, slot=0)
            self.assertEqual(child.next()[2], {"type": "pong", "t": 1})

    def test_sound_too_old_is_dropped_and_told(self):
        body = """
            class Stuck(ringback.Module):
                rate, max_queue_ms, auto_ack = 8000, 100, False
                def on_audio(self, s, pcm):
                    s.event("at", s.now_ms)
                    while s.heard_ms < 400: time.sleep(0.005)
                def on_gap(self, s, gap):
                    s.event("gap", [gap.from_ms, gap.to_ms, gap.reason])
            ringback.run(Stuck)
        """
        with Child(body) as child:
            child.begin()
            child.sound(FRAME)
            self.assertEqual(child.until("event")["data"], 20)
            for _ in range(19):
                child.sound(FRAME)
            self.assertEqual(child.until("event")["data"], [20, 300, "backpressure"])
            self.assertEqual(child.until("event")["data"], 320)
            self.assertEqual(child.until("log")["fields"]["dropped_ms"], 280)
            self.assertEqual(child.until("metric")["value"], 280)
            child.say({"type": "stop", "reason": "hangup", "deadline_ms": 3000})
            stats = child.until("done")["stats"]
            self.assertEqual(stats, {"in_ms": 400, "handled_ms": 120, "dropped_ms": 280})


class Ends(unittest.TestCase):
    def test_end_of_input_stops_sessions_and_exits_0(self):
        with Child(LISTENER) as child:
            child.begin()
            self.assertEqual(child.end(), 0)
            said = [message for _, _, message in child.rest()]
            self.assertEqual([m["type"] for m in said], ["event", "done"])
            self.assertEqual(said[0]["data"], "gone")

    def test_a_stop_does_not_wait_for_all_that_waits(self):
        body = """
            class Slow(ringback.Module):
                rate = 8000
                def on_audio(self, s, pcm):
                    s.event("in")
                    time.sleep(0.1)
                def on_stop(self, s): s.event("flushed", s.now_ms)
            ringback.run(Slow)
        """
        with Child(body) as child:
            child.begin()
            for _ in range(50):
                child.sound(FRAME)
            child.until("event")
            child.say({"type": "stop", "reason": "hangup", "deadline_ms": 200})
            messages = []
            while not messages or messages[-1]["type"] != "done":
                messages.append(child.next()[2])
            stats = messages[-1]["stats"]
            self.assertEqual(stats["handled_ms"] + stats["dropped_ms"], 1000)
            self.assertGreater(stats["dropped_ms"], 500)
            logged = [m["fields"]["dropped_ms"] for m in messages if m["type"] == "log"]
            self.assertEqual(logged, [stats["dropped_ms"]])
            self.assertIn("flushed", [m.get("name") for m in messages])

    def test_sigterm_is_the_same(self):
        with Child(LISTENER) as child:
            child.begin()
            child.process.send_signal(signal.SIGTERM)
            self.assertEqual(child.process.wait(10), 0)
            self.assertEqual([m["type"] for _, _, m in child.rest()], ["event", "done"])

    def test_signals_of_the_module_are_its_own(self):
        body = """
            import signal
            class Own(ringback.Module):
                def on_dtmf(self, s, dtmf): s.event("usr1", got)
            got = []
            signal.signal(signal.SIGUSR1, lambda *_: got.append(1))
            ringback.run(Own)
        """
        with Child(body) as child:
            child.begin()
            child.process.send_signal(signal.SIGUSR1)
            child.say({"type": "ping", "t": 1}, slot=0)
            child.until("pong")
            child.say({"type": "dtmf", "digit": "1"})
            self.assertEqual(child.until("event")["data"], [1])

    def test_sigint_is_for_the_bridge(self):
        with Child(LISTENER) as child:
            child.begin()
            child.process.send_signal(signal.SIGINT)
            child.sound(FRAME)
            self.assertEqual(child.until("event")["name"], "heard")

    def test_a_handler_that_never_returns_does_not_keep_the_process(self):
        body = """
            import threading
            class Forever(ringback.Module):
                rate = 8000
                def on_start(self, s):
                    threading.Thread(target=time.sleep, args=(60,)).start()
                def on_audio(self, s, pcm):
                    s.event("in")
                    time.sleep(60)
            ringback.run(Forever)
        """
        for sound in (
            FRAME,
            b"",
        ):  # with a stuck handler; with a stuck thread of the module's own only
            with Child(body) as child:
                child.begin()
                if sound:
                    child.sound(sound)
                    child.until("event")
                began = time.monotonic()
                self.assertEqual(child.end(), 0)
                self.assertLess(time.monotonic() - began, 4)

    def test_an_async_handler_is_cancelled(self):
        body = """
            import asyncio
            class Forever(ringback.Module):
                rate = 8000
                async def on_audio(self, s, pcm):
                    s.event("in")
                    try: await asyncio.sleep(60)
                    finally: print("cancelled")
                def on_stop(self, s): print("stopped")
            ringback.run(Forever)
        """
        with Child(body) as child:
            child.begin()
            child.sound(FRAME)
            child.until("event")
            self.assertEqual(child.end(), 0)
            self.assertEqual(child.stderr().split(), ["cancelled", "stopped"])

    def test_a_bridge_that_vanished_ends_a_talker(self):
        body = """
            class Talker(ringback.Module):
                speaks, rate = 8000, 8000
                def on_audio(self, s, pcm):
                    while s.play(bytes(16000)): pass
            ringback.run(Talker)
        """
        with Child(body) as child:
            child.begin()
            child.sound(FRAME)
            while child.next()[0] != AUDIO:
                pass
            child.process.stdin.close()
            self.assertEqual(child.process.wait(10), 0)

    def test_garbage_ends_with_65_and_says_so(self):
        not_json = frame(JSON, 1, b"hello")
        odd = frame(JSON, 1, b'{"type":"start","resume":{"from_ms":[]}}')
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", not_json, odd, frame(AUDIO, 0, FRAME)):
            with Child(LISTENER) as child:
                child.until("register")
                child.raw(garbage)
                self.assertEqual(child.process.wait(10), 65)
                self.assertIn("ringback: standard input: ", child.stderr())
                self.assertNotIn("Traceback", child.stderr())

    def test_a_frame_longer_than_allowed_is_not_waited_for(self):
        with Child(LISTENER) as child:
            child.raw(struct.pack("<IBBH", 262_145, 1, 0, 1))
            self.assertEqual(child.process.wait(10), 65)

    def test_half_a_sample_is_refused(self):
        with Child(LISTENER) as child:
            child.begin()
            child.sound(b"abc")
            self.assertEqual(child.process.wait(10), 65)
            self.assertIn("3 octets of sound", child.stderr())

    def test_input_that_ends_within_a_frame_is_told(self):
        with Child(LISTENER) as child:
            child.until("register")
            child.raw(frame(JSON, 1, b"{}")[:-1])
            self.assertEqual(child.end(), 0)
            self.assertIn("ended within a frame", child.stderr())


if __name__ == "__main__":
    unittest.main()
