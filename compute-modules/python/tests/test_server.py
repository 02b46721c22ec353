"""A module that bridges dial: the handshake, one session a connection, ends, and what the protocol forbids."""

import json
import signal
import socket
import struct
import unittest
from typing import Any, Dict, Optional, Tuple

from .support import LISTENER, PATIENCE, START, Messages, Program

from ringback import _websocket as ws  # noqa: E402  (support puts it in reach)

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def masked(opcode: int, payload: bytes, last: bool = True, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    length = len(payload)
    first = opcode | (0x80 if last else 0)
    if length <= 125:
        head = struct.pack("!BB", first, 0x80 | length)
    elif length < 1 << 16:
        head = struct.pack("!BBH", first, 0x80 | 126, length)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, length)
    return head + mask + bytes(octet ^ mask[i % 4] for i, octet in enumerate(payload))


class Served(Program):
    """A module script that serves on a free port."""

    def __init__(self, body: str, *arguments: str, **environment: str) -> None:
        super().__init__(body, "--serve", "127.0.0.1:0", *arguments, **environment)
        self.told = self.process.stdout.readline().decode()
        self.port = int(self.told.rstrip("/\n").rpartition(":")[2]) if self.told else 0


class Line(Messages):
    """A bridge's end of a connection."""

    def __init__(self, served: Served, **fields: Optional[str]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", served.port), PATIENCE)
        self._stream = self.socket.makefile("rb")
        given: Dict[str, Optional[str]] = {
            "Host": "module",
            "Upgrade": "websocket",
            "Connection": "keep-alive, Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": KEY,
            "Sec-WebSocket-Protocol": "other, ringback.v1",
        }
        given.update({name.replace("_", "-"): value for name, value in fields.items()})
        head = "".join(f"{k}: {v}\r\n" for k, v in given.items() if v is not None)
        self.raw(f"GET /m HTTP/1.1\r\n{head}\r\n".encode())
        self.status = self._stream.readline().decode().strip()
        self.fields = {}
        for line in iter(self._stream.readline, b"\r\n"):
            name, _, value = line.decode().partition(":")
            self.fields[name.lower()] = value.strip()

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self.socket.close()

    def raw(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def say(self, **message: Any) -> None:
        self.raw(masked(ws.TEXT, json.dumps(message).encode()))

    def next(self) -> Tuple[int, bytes]:
        first, length = self._stream.read(2)
        if length == 126:
            (length,) = struct.unpack("!H", self._stream.read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._stream.read(8))
        return first & 0x0F, self._stream.read(length)

    def begin(self, **fields: Any) -> Dict[str, Any]:
        self.say(**{**START, **fields})
        return self.until("ready")


class Life(unittest.TestCase):
    def test_from_upgrade_to_done(self):
        with Served(LISTENER) as served, Line(served) as line:
            self.assertIn("listener, 1 call at a time", served.told)
            self.assertEqual(line.status, "HTTP/1.1 101 Switching Protocols")
            self.assertEqual(line.fields["sec-websocket-protocol"], "ringback.v1")
            self.assertEqual(line.fields["sec-websocket-accept"], ws.accept_key(KEY))
            self.assertEqual(line.begin()["session"], "s1")
            line.say(type="ping", t=7)
            self.assertEqual(line.until("pong")["t"], 7)
            line.raw(masked(ws.BINARY, bytes(320)))
            self.assertEqual(line.until("event")["data"], {"octets": 320, "now_ms": 20})
            self.assertEqual(line.until("audio.begin")["epoch"], 0)
            self.assertEqual(line.next(), (ws.BINARY, bytes(320)))
            line.say(type="stop", reason="hangup", deadline_ms=3000)
            self.assertEqual(line.until("event")["data"], "hangup")
            self.assertEqual(line.until("done")["stats"]["in_ms"], 20)
            line.raw(masked(ws.CLOSE, struct.pack("!H", 1000)))
            self.assertEqual(line.closed(), 1000)

    def test_sessions_are_apart_and_no_more_than_allowed(self):
        with Served(LISTENER, "--max-sessions", "2") as served:
            with Line(served) as one, Line(served) as two, Line(served) as three:
                one.begin()
                two.begin(session="s2")
                three.say(**START)
                self.assertEqual(three.until("reject")["code"], "busy")
                two.raw(masked(ws.BINARY, bytes(640)))
                self.assertEqual(two.until("event")["data"]["octets"], 640)
                one.raw(masked(ws.BINARY, bytes(320)))
                self.assertEqual(one.until("event")["data"]["octets"], 320)

    def test_a_bridge_that_is_gone_ends_its_session_and_nothing_else(self):
        with Served(LISTENER) as served:
            with Line(served) as line:
                line.begin()
            self.assertEqual(served.process.stdout.readline(), b"stopped gone\n")
            with Line(served) as line:
                line.begin()

    def test_a_bridge_that_does_not_read_holds_up_nobody(self):
        body = LISTENER.replace(
            "def on_audio",
            "def on_dtmf(self, s, dtmf):\n            while s.play(bytes(32_000)): pass\n"
            "        def on_audio",
        )
        with Served(body, "--max-sessions", "2") as served, Line(served) as other:
            with Line(served) as deaf:
                deaf.begin()
                deaf.say(type="dtmf", digit="1", source="provider", at_ms=0)
                other.begin(session="s2")
                other.raw(masked(ws.BINARY, bytes(320)))
                self.assertEqual(other.until("event")["data"]["octets"], 320)
            # It is gone, so what it was told goes nowhere and the handler may end.
            self.assertEqual(served.process.stdout.readline(), b"stopped gone\n")
            other.say(type="ping", t=3)
            self.assertEqual(other.until("pong")["t"], 3)

    def test_an_end_of_the_server_is_no_end_of_the_session(self):
        with Served(LISTENER) as served, Line(served) as line:
            line.begin()
            served.process.send_signal(signal.SIGTERM)
            opcode, payload = line.next()
            self.assertEqual((opcode, ws.close_code(payload)), (ws.CLOSE, 1001))
            self.assertEqual(served.process.wait(PATIENCE), 0)

    def test_a_module_that_cannot_be_loaded(self):
        body = LISTENER.replace("def on_stop", "def on_load(self): 1 / 0\n        def on_stop")
        with Served(body) as served:
            self.assertEqual(served.process.wait(PATIENCE), 70)


class Entry(unittest.TestCase):
    def test_who_may_not_come_in_is_told_why(self):
        with Served(LISTENER, RINGBACK_TOKEN="s3cret") as served:
            right = {"Authorization": "Bearer s3cret"}
            for fields, status in (
                (right, "101"),
                ({}, "401"),
                ({"Authorization": "Bearer wrong"}, "401"),
                ({**right, "Origin": "https://example.com"}, "403"),
                ({**right, "Sec_WebSocket_Protocol": None}, "400"),
                ({**right, "Sec_WebSocket_Key": "short"}, "400"),
                ({**right, "Sec_WebSocket_Version": "8"}, "426"),
                ({**right, "Upgrade": None}, "426"),
            ):
                with Line(served, **fields) as line:
                    self.assertEqual(line.status.split()[1], status, fields)

    def test_others_are_served_with_a_token_only(self):
        with Served(LISTENER, "--serve", "0.0.0.0:0") as served:
            self.assertEqual(served.process.wait(PATIENCE), 64)
            self.assertIn(b"RINGBACK_TOKEN", served.process.stderr.read())
        with Served(LISTENER, "--serve", "0.0.0.0:0", RINGBACK_TOKEN="t") as served:
            self.assertIsNone(served.process.poll())
        with Served(LISTENER, "--serve", "nowhere") as served:
            self.assertEqual(served.process.wait(PATIENCE), 64)


class Breaches(unittest.TestCase):
    def test_the_code_says_what_was_wrong(self):
        with Served(LISTENER) as served:
            for octets, code in (
                (masked(ws.TEXT, b"hello"), 4002),
                (masked(ws.TEXT, b'"\xff"'), 1007),
                (masked(ws.TEXT, b"[]"), 4002),
                (masked(0x3, b""), 1002),
                (masked(ws.CONTINUATION, b""), 1002),
                (masked(ws.PING, bytes(126)), 1002),
                (masked(ws.PING, b"", last=False), 1002),
                (b"\x81\x02{}", 1002),
                (b"\xc1\x82\0\0\0\0{}", 1002),
                (masked(ws.BINARY, bytes(262_145))[:20], 1009),
            ):
                with Line(served) as line:
                    line.raw(octets)
                    self.assertEqual(line.closed(), code, octets[:20])

    def test_control_frames_are_answered(self):
        with Served(LISTENER) as served, Line(served) as line:
            line.raw(masked(ws.PING, b"life?"))
            self.assertEqual(line.next(), (ws.PONG, b"life?"))
            line.raw(masked(ws.CLOSE, b""))
            self.assertEqual(line.closed(), 1000)

    def test_whoever_pings_and_reads_no_answer_is_read_no_further(self):
        with Served(LISTENER) as served, Line(served) as line:
            line.socket.settimeout(1)
            pings = masked(ws.PING, bytes(125)) * 1_000
            with self.assertRaises(socket.timeout):
                for _ in range(400):  # 50 MB are more than systems keep between two processes.
                    line.raw(pings)


class Frames(unittest.TestCase):
    def test_the_key_of_the_standard(self):
        self.assertEqual(ws.accept_key(KEY), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")

    def test_messages_however_they_are_cut(self):
        sizes = (0, 1, 125, 126, 65_535, 65_536)
        octets = b"".join(masked(ws.BINARY, bytes([7]) * size) for size in sizes)
        octets += masked(ws.TEXT, "gr".encode(), last=False) + masked(ws.PING, b"p")
        octets += masked(ws.CONTINUATION, "ün".encode()[:1], last=False)
        octets += masked(ws.CONTINUATION, "ün".encode()[1:])
        expected = [(ws.BINARY, bytes([7]) * size) for size in sizes]
        expected += [(ws.PING, b"p"), (ws.TEXT, "grün".encode())]
        for step in (1, 7, 1000, len(octets)):
            reader, found = ws.Reader(1 << 18), []
            for at in range(0, len(octets), step):
                found += reader.feed(octets[at : at + step])
            self.assertEqual(found, expected)

    def test_pieces_count_towards_the_limit_together(self):
        reader = ws.Reader(10)
        list(reader.feed(masked(ws.TEXT, bytes(6), last=False)))
        with self.assertRaises(ws.Violation) as broken:
            list(reader.feed(masked(ws.CONTINUATION, bytes(5))))
        self.assertEqual(broken.exception.code, 1009)

    def test_what_a_server_writes(self):
        for size in (0, 125, 126, 65_535, 65_536):
            head = ws.frame(ws.BINARY, bytes(size))[:-size or None]
            self.assertEqual((head[0], len(head)), (0x82, 2 if size < 126 else 4 if size < 65_536 else 10))
        self.assertEqual(len(ws.close_frame(1000, "ü" * 100)), 2 + 124)


if __name__ == "__main__":
    unittest.main()
