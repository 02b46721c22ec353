"""A module that is a worker on NATS: the protocol in pieces, and sessions over a real nats-server."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from typing import Any, Dict, List, Optional

from .support import LISTENER, PATIENCE, SRC, START, Program

from ringback._nats import (  # noqa: E402  (support puts it in reach)
    Client,
    Control,
    Delivery,
    Info,
    Login,
    Msg,
    NatsError,
    Parser,
    server,
)
from ringback._nkeys import BadCredentials, Credentials  # noqa: E402

SERVER = shutil.which("nats-server", path=os.environ.get("PATH", "") + ":/usr/sbin")
ABSENT = "no nats-server (Debian package nats-server); `bash .ci/test` installs it"
STREAM = (
    b'INFO {"max_payload":1048576,"headers":true}\r\nPING\r\n+OK\r\n'
    b"MSG a.b 1 5\r\nhe\r\no\r\nMSG a.b 2 _R.1 0\r\n\r\n"
    b"HMSG a 3 32 34\r\nNATS/1.0\r\nRingback-Json: 1 2\r\n\r\nhi\r\n"
    b"HMSG a 3 r 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"
    b"-ERR 'Authorization Violation'\r\n"
)


class Pieces(unittest.TestCase):
    def test_what_a_server_says_however_it_is_cut(self):
        wanted = [
            Info({"max_payload": 1_048_576, "headers": True}),
            Control("PING", ""),
            Control("+OK", ""),
            Delivery(1, Msg("a.b", None, {}, b"he\r\no")),
            Delivery(2, Msg("a.b", "_R.1", {}, b"")),
            Delivery(3, Msg("a", None, {"Status": "", "Ringback-Json": "1 2"}, b"hi")),
            Delivery(3, Msg("a", "r", {"Status": "503"}, b"")),
            Control("-ERR", "Authorization Violation"),
        ]
        for size in (1, 2, 7, 50, len(STREAM)):
            parser, ops = Parser(), []
            for at in range(0, len(STREAM), size):
                ops += parser.feed(STREAM[at : at + size])
            self.assertEqual(ops, wanted, size)

    def test_what_is_not_nats_is_told_so(self):
        for octets in (
            b"HTTP/1.1 400 Bad Request\r\n",
            b"MSG a\r\n",
            b"MSG a 1 -4\r\n",
            b"MSG a 1 99999999\r\n",
            b"HMSG a 1 9 4\r\n",
            b"INFO {\r\n",
            b"x" * 100_000,
        ):
            with self.assertRaises(NatsError, msg=octets[:20]):
                Parser().feed(octets)

    def test_urls(self):
        for text, wanted in (
            ("nats://h", "nats://h:4222"),
            ("nats://h:1/", "nats://h:1"),
            ("tls://[::1]:7", "tls://[::1]:7"),
            ("nats://[::1]", "nats://[::1]:4222"),
        ):
            self.assertEqual(str(server(text)), wanted)
        for text in ("h:4222", "http://h", "nats://", "nats://h:0", "nats://h:x"):
            with self.assertRaises(ValueError, msg=text):
                server(text)
        with self.assertRaisesRegex(ValueError, "do not stand in the URL") as caught:
            server("nats://me:s3cret@h:4222")
        self.assertNotIn("s3cret", str(caught.exception))

    def test_credentials_say_what_is_wrong_and_not_what_they_are(self):
        def text(seed: str) -> str:
            return (
                f"-----BEGIN NATS USER JWT-----\neyJ.a-b_c\n------END NATS USER JWT------\n\n"
                f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
            )

        # A key made for this test, that opens nothing.
        good = "SUAMLK2ZNL35WSMW37E7UD4VZ7ELPKW7DHC3BWBSD2GCZ7IUQQXZIORRBU"
        for seed, wrong in (
            (good[:-1] + "7", "damaged"),
            ("SA" + good[2:], "not that of a user"),
            ("SU!", "none|no USER"),
        ):
            with self.assertRaisesRegex(BadCredentials, wrong) as caught:
                Credentials(text(seed))
            self.assertNotIn(seed, str(caught.exception))
        try:
            credentials = Credentials(text(good))
        except BadCredentials as error:
            self.assertIn("pip install cryptography", str(error))
        else:
            self.assertEqual(len(credentials.sign("nonce")), 86)
            self.assertNotIn("SU", repr(credentials))


class Bus:
    """A nats-server on a free port."""

    def __init__(self, *arguments: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        command = [SERVER, "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", self._folder.name]
        self.process = subprocess.Popen([*command, *arguments], stderr=subprocess.DEVNULL)
        until = time.monotonic() + PATIENCE
        self.url = ""
        while not self.url:
            for name in os.listdir(self._folder.name):
                with open(os.path.join(self._folder.name, name)) as file:
                    text = file.read()
                self.url = json.loads(text)["nats"][0] if text.endswith("}") else ""
            assert time.monotonic() < until and self.process.poll() is None
            time.sleep(0.005)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._folder.cleanup()


class Working(Program):
    """A module script that works for a group."""

    def __init__(self, bus: Bus, body: str, *arguments: str, **environment: str) -> None:
        super().__init__(body, "--nats", bus.url, "--group", "g", *arguments, **environment)
        self.told = self.process.stdout.readline().decode()


class Session:
    """A bridge's end of a session."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._subject = f"ringback.v1.session.{name}."
        self.said = self.taken = self.confirmed = 0
        self.came: "asyncio.Queue[Msg]" = asyncio.Queue()
        client.subscribe(self._subject + "out", self.came.put_nowait)

    def say(self, **message: Any) -> None:
        self.put("Ringback-Json", json.dumps(message).encode())

    def put(self, field: str, body: bytes) -> None:
        self._client.publish(self._subject + "in", body, (field, f"{self.said} {self.taken}"))
        self.said += 1

    def close(self, code: int = 1000) -> None:
        self._client.publish(self._subject + "in", b"", ("Ringback-Close", str(code)))

    async def next(self) -> Msg:
        """The next message that is not about numbers alone."""
        while True:
            message = await asyncio.wait_for(self.came.get(), PATIENCE)
            if "Ringback-Taken" in message.headers:
                self.confirmed = int(message.headers["Ringback-Taken"])
                continue
            for field in ("Ringback-Json", "Ringback-Sound"):
                if field in message.headers:
                    number, confirmed = map(int, message.headers[field].split())
                    assert number == self.taken, (number, self.taken)
                    self.taken, self.confirmed = number + 1, confirmed
            return message

    async def until(self, type: str) -> Dict[str, Any]:
        while True:
            message = await self.next()
            if "Ringback-Json" in message.headers:
                said: Dict[str, Any] = json.loads(message.payload)
                if said["type"] == type:
                    return said

    async def closed(self) -> str:
        while True:
            message = await self.next()
            if "Ringback-Close" in message.headers:
                return message.headers["Ringback-Close"]

    async def begin(self, **fields: Any) -> Dict[str, Any]:
        self.say(**{**START, **fields})
        return await self.until("ready")


class Bridge:
    """What offers sessions."""

    def __init__(self, bus: Bus) -> None:
        self.client = Client([server(bus.url)], Login(), "test")
        self._running: Optional["asyncio.Task[None]"] = None

    async def __aenter__(self) -> "Bridge":
        async def connected() -> None:
            pass

        self._running = asyncio.get_running_loop().create_task(self.client.run(connected))
        await asyncio.wait_for(self.client.wait_connected(), PATIENCE)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def ask(self, offer: bytes = b'{"type":"offer","v":1}') -> Optional[Dict[str, Any]]:
        """What is answered; None if nobody is there. One who has just left the group may not answer: as bridges do, asks again."""
        inbox = f"inbox.{time.monotonic_ns()}"
        answers: "asyncio.Queue[Msg]" = asyncio.Queue()
        sid = self.client.subscribe(inbox, answers.put_nowait)
        line = f"PUB ringback.v1.offer.g {inbox} {len(offer)}\r\n".encode() + offer + b"\r\n"
        until = time.monotonic() + PATIENCE
        while True:
            self.client._write(line)
            try:
                answer = await asyncio.wait_for(answers.get(), 0.3)
                break
            except asyncio.TimeoutError:
                assert time.monotonic() < until, "nobody answers"
        self.client.unsubscribe(sid)
        return None if answer.headers.get("Status") == "503" else json.loads(answer.payload)

    async def answered(self, offer: bytes) -> Dict[str, Any]:
        """What is answered by somebody who is there, or will be."""
        until = time.monotonic() + PATIENCE
        while (answer := await self.ask(offer)) is None:
            assert time.monotonic() < until, "nobody is there"
            await asyncio.sleep(0.02)
        return answer

    async def open(self) -> Session:
        until = time.monotonic() + PATIENCE
        while True:
            answer = await self.ask()
            if answer is not None and answer["type"] == "take":
                return Session(self.client, answer["session"])
            assert time.monotonic() < until, answer
            await asyncio.sleep(0.02)


@unittest.skipUnless(SERVER or os.environ.get("CI"), ABSENT)
class Life(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        # Processes are started and waited for in the loop, which is no news.
        asyncio.get_running_loop().slow_callback_duration = PATIENCE

    def bus(self, *arguments: str) -> Bus:
        self.assertTrue(SERVER, ABSENT)
        bus = Bus(*arguments)
        self.addCleanup(bus.close)
        return bus

    def working(self, bus: Bus, *arguments: str, body: str = LISTENER, **environment: str) -> Working:
        working = Working(bus, body, *arguments, **environment)
        self.addCleanup(working.close)
        return working

    async def test_from_offer_to_done(self):
        bus = self.bus()
        working = self.working(bus)
        self.assertIn("listener, 1 call at a time (max_sessions): group g", working.told)
        async with Bridge(bus) as bridge:
            session = await bridge.open()
            self.assertEqual((await session.begin())["session"], "s1")
            self.assertIsNone(await bridge.ask(), "the only place is taken, and it left the group")
            session.say(type="ping", t=7)
            self.assertEqual((await session.until("pong"))["t"], 7)
            session.put("Ringback-Sound", bytes(320))
            heard = await session.until("event")
            self.assertEqual(heard["data"], {"octets": 320, "now_ms": 20})
            self.assertEqual((await session.until("audio.begin"))["epoch"], 0)
            self.assertEqual((await session.next()).payload, bytes(320))
            session.say(type="stop", reason="hangup", deadline_ms=3000)
            self.assertEqual((await session.until("event"))["data"], "hangup")
            await session.until("done")
            session.close()
            again = await bridge.open()
            await again.begin(session="s2")
            # What it says after the end is not heard; that it ended with its bridge's goodbye is.
            again.close(1001)
            self.assertEqual(working.process.stdout.readline(), b"stopped hangup\n")
            self.assertEqual(working.process.stdout.readline(), b"stopped gone\n")

    async def test_a_message_that_is_missing_ends_the_session(self):
        bus = self.bus()
        self.working(bus)
        async with Bridge(bus) as bridge:
            session = await bridge.open()
            await session.begin()
            session.said += 2
            session.say(type="ping", t=1)
            self.assertEqual(
                await session.closed(), "4009 2 messages to it were lost on their way"
            )
            await (await bridge.open()).begin()

    async def test_what_breaks_the_contract_ends_the_session(self):
        bus = self.bus()
        self.working(bus)
        async with Bridge(bus) as bridge:
            session = await bridge.open()
            session.put("Other", b"{}")
            self.assertRegex(await session.closed(), "^4002 ")
            session = await bridge.open()
            session.put("Ringback-Json", b"hello")
            self.assertRegex(await session.closed(), "^4002 not JSON")
            session = await bridge.open()
            session.taken = 3
            session.put("Ringback-Json", b"{}")
            self.assertRegex(await session.closed(), "^4002 3 messages taken")
            self.assertEqual((await bridge.answered(b"hi"))["code"], "bad_message")
            self.assertEqual((await bridge.answered(b'{"v":9}'))["code"], "unsupported_version")

    async def test_more_is_not_said_than_the_window(self):
        bus = self.bus()
        body = """
            class Talker(ringback.Module):
                def on_dtmf(self, s, key):
                    for n in range(300):
                        s.event("n", n)
            ringback.run(Talker)
        """
        self.working(bus, body=body)
        async with Bridge(bus) as bridge:
            session = await bridge.open()
            await session.begin()
            session.say(type="dtmf", track=0, digit="1", source="provider", at_ms=0)
            seen: List[int] = []
            # `ready` was confirmed with what was said after it, and nothing since.
            while len(seen) < 256:
                seen.append((await session.until("event"))["data"])
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(session.came.get(), 0.1)
            session.say(type="ping", t=1)
            while len(seen) < 300:
                seen.append((await session.until("event"))["data"])
            self.assertEqual(seen, list(range(300)))

    async def test_half_a_window_is_confirmed_unasked(self):
        bus = self.bus()
        self.working(bus, body="""
            class Deaf(ringback.Module):
                pass
            ringback.run(Deaf)
        """)
        async with Bridge(bus) as bridge:
            session = await bridge.open()
            await session.begin()
            # The first was confirmed with `ready`.
            for _ in range(128):
                session.put("Ringback-Sound", bytes(32))
            message = await asyncio.wait_for(session.came.get(), PATIENCE)
            self.assertEqual(message.headers["Ringback-Taken"], "129")

    async def test_a_bridge_that_is_silent_is_given_up(self):
        bus = self.bus()
        working = self.working(bus)
        async with Bridge(bus) as bridge:
            session = await bridge.open()
            await session.begin(limits={"dead_ms": 100})
            self.assertRegex(await session.closed(), "^4008 nothing was heard for 0.2 s")
            self.assertEqual(working.process.stdout.readline(), b"stopped gone\n")

    async def test_sigterm_waits_for_calls_and_takes_no_more(self):
        bus = self.bus()
        working = self.working(bus, "--max-sessions", "2")
        async with Bridge(bus) as bridge:
            before = await bridge.open()  # That it has been without a call once makes no difference.
            await before.begin()
            before.say(type="stop", reason="hangup", deadline_ms=3000)
            await before.until("done")
            before.close()
            self.assertEqual(working.process.stdout.readline(), b"stopped hangup\n")
            session = await bridge.open()
            await session.begin()
            working.process.send_signal(signal.SIGTERM)
            until = time.monotonic() + PATIENCE
            while (answer := await bridge.ask()) is not None:
                if answer["type"] == "take":  # The signal was still on its way.
                    Session(bridge.client, answer["session"]).close()
                else:
                    self.assertEqual(answer["code"], "busy")
                self.assertLess(time.monotonic(), until)
            session.put("Ringback-Sound", bytes(320))
            await session.until("event")
            session.say(type="stop", reason="hangup", deadline_ms=3000)
            await session.until("done")
            session.close()
            self.assertEqual(working.process.wait(PATIENCE), 0)

    async def test_what_is_left_at_the_end_of_the_drain_is_handed_over(self):
        bus = self.bus()
        working = self.working(bus, "--drain-seconds", "0.1")
        async with Bridge(bus) as bridge:
            session = await bridge.open()
            await session.begin()
            working.process.send_signal(signal.SIGTERM)
            self.assertEqual(await session.closed(), "1001 the worker ends")
            self.assertEqual(working.process.wait(PATIENCE), 0)

    async def test_who_may_not_come_in_is_told_so(self):
        bus = self.bus("--user", "me", "--pass", "s3cret")
        wrong = self.working(bus, "--user", "me", RINGBACK_NATS_PASSWORD="wrong")
        self.assertEqual(wrong.process.wait(PATIENCE), 69)
        self.assertIn(b"Authorization Violation", wrong.process.stderr.read())
        right = self.working(bus, "--user", "me", RINGBACK_NATS_PASSWORD="s3cret")
        self.assertIn("group g", right.told)

    async def test_bad_options_end_with_64(self):
        for arguments in (["--nats", "http://h", "--group", "g"], ["--nats", "nats://h", "--group", "a.b"]):
            command = [sys.executable, "-c", "import ringback\nclass M(ringback.Module): pass\nringback.run(M)"]
            done = subprocess.run(
                [*command, *arguments], env={**os.environ, "PYTHONPATH": SRC}, capture_output=True, timeout=PATIENCE
            )
            self.assertEqual(done.returncode, 64, done.stderr)


if __name__ == "__main__":
    unittest.main()
