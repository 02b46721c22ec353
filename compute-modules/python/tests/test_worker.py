"""A module that dials bridges: registers, opens connections when told to, dials again, and ends when its calls have."""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import unittest
from typing import Any, Dict, Optional, Tuple

from .support import LISTENER as ONE_AT_A_TIME
from .support import PATIENCE, START, Messages, Program

from ringback import _websocket as ws  # noqa: E402  (support puts it in reach)

LISTENER = ONE_AT_A_TIME.replace("version,", "max_sessions = 2\n        version,")
WORKER = "ringback.v1.worker"


class Line(Messages):
    """A bridge's end of a connection that a worker opened."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.settimeout(PATIENCE)
        self._reader = ws.Reader(1 << 18)
        self._arrived: list = []
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self._socket.recv(1)
        first, *lines = head.decode().strip().split("\r\n")
        self.target = first.split()[1]
        self.fields = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
        self.head = head

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def bearer(self) -> str:
        return self.fields["authorization"].partition(" ")[2]

    def take(self) -> "Line":
        """Lets it in."""
        subprotocol = self.fields["sec-websocket-protocol"]
        self.raw(ws.upgrade(self.head, subprotocol, self.bearer))
        return self

    def refuse(self, status: str, body: str = "", field: str = "") -> None:
        answer = f"HTTP/1.1 {status}\r\n{field}Content-Length: {len(body)}\r\n\r\n{body}"
        self.raw(answer.encode())
        self._socket.close()

    def raw(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def say(self, **message: Any) -> None:
        self.raw(ws.frame(ws.TEXT, json.dumps(message).encode()))

    def next(self) -> Tuple[int, bytes]:
        while not self._arrived:
            data = self._socket.recv(65_536)
            if not data:
                raise ConnectionResetError
            self._arrived += self._reader.feed(data)
        return self._arrived.pop(0)


class Bridge(Program):
    """Where a worker dials in, and the worker."""

    def __init__(
        self, body: str, *arguments: str, scheme: str = "ws", tls: Optional[ssl.SSLContext] = None,
        **environment: str,
    ) -> None:
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        port = self._listener.getsockname()[1]
        self.url = f"{scheme}://localhost:{port}/modules/stt"
        environment = {"RINGBACK_TOKEN": "s3cret", **environment}
        super().__init__(body, "--connect", self.url, *arguments, **environment)

    def close(self) -> None:
        super().close()
        self._listener.close()

    def accept(self) -> Line:
        connection, _ = self._listener.accept()
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True)
        return Line(connection)

    def registered(self) -> Line:
        """The connection on which it registers."""
        line = self.accept().take()
        line.register = line.until("register")
        line.say(type="registered", worker="w#1", max_sessions=2, ping_ms=5000, dead_ms=15000)
        return line

    def session(self, control: Line, ticket: str = "t1") -> Line:
        """A connection for a session."""
        control.say(type="open", ticket=ticket)
        return self.accept().take()


def begin(line: Line, **fields: Any) -> Dict[str, Any]:
    line.say(**{**START, **fields})
    return line.until("ready")


class Life(unittest.TestCase):
    def test_from_register_to_the_end_of_a_session(self):
        with Bridge(LISTENER, "--max-sessions", "3") as bridge, bridge.registered() as control:
            fields = control.fields
            self.assertEqual((control.target, control.bearer), ("/modules/stt", "s3cret"))
            self.assertEqual(fields["sec-websocket-protocol"], WORKER)
            self.assertEqual(fields["host"], bridge.url.split("/")[2])
            who = control.register
            self.assertEqual((who["module"], who["version"], who["max_sessions"]), ("listener", "1.2", 3))
            told = bridge.process.stdout.readline().decode()
            self.assertEqual(told, f"listener, 3 calls at a time: {bridge.url} as w#1\n")
            self.assertEqual(control.until("load"), {"type": "load", "sessions": 0})
            control.say(type="ping", t=7)
            self.assertEqual(control.until("pong")["t"], 7)
            control.say(type="of.a.later.version")
            with bridge.session(control) as line:
                self.assertEqual((line.target, line.bearer), ("/modules/stt", "t1"))
                self.assertEqual(line.fields["sec-websocket-protocol"], "ringback.v1")
                line.raw(ws.frame(ws.PING, b"idle?"))
                self.assertEqual(line.next(), (ws.PONG, b"idle?"))
                self.assertEqual(begin(line)["session"], "s1")
                self.assertEqual(control.until("load")["sessions"], 1)
                line.raw(ws.frame(ws.BINARY, bytes(320)))
                self.assertEqual(line.until("event")["data"], {"octets": 320, "now_ms": 20})
                self.assertEqual(line.until("audio.begin")["epoch"], 0)
                self.assertEqual(line.next(), (ws.BINARY, bytes(320)))
                line.say(type="stop", reason="hangup", deadline_ms=3000)
                self.assertEqual(line.until("event")["data"], "hangup")
                self.assertEqual(line.until("done")["stats"]["in_ms"], 20)
                line.raw(ws.close_frame(1000))
                self.assertEqual(line.closed(), 1000)
            self.assertEqual(control.until("load")["sessions"], 0)

    def test_a_load_of_its_own_is_told(self):
        body = LISTENER.replace("def on_stop", "def current_load(self): return 7\n        def on_stop")
        with Bridge(body) as bridge, bridge.registered() as control:
            self.assertEqual(control.until("load"), {"type": "load", "sessions": 0, "load": 1.0})

    def test_it_dials_again_and_its_sessions_go_on(self):
        with Bridge(LISTENER) as bridge:
            with bridge.registered() as control:
                line = bridge.session(control)
                begin(line)
            with bridge.registered() as control:
                # It says what it has from before.
                self.assertEqual(control.until("load")["sessions"], 1)
                line.raw(ws.frame(ws.BINARY, bytes(320)))
                self.assertEqual(line.until("event")["data"]["octets"], 320)
                with bridge.session(control, "t2") as other:
                    self.assertEqual(begin(other, session="s2")["session"], "s2")
            line.__exit__()

    def test_a_bridge_that_is_full_is_left_alone_for_as_long_as_it_asks(self):
        with Bridge(LISTENER) as bridge:
            bridge.accept().refuse("503 Service Unavailable", "no capacity", "Retry-After: 1\r\n")
            refused = time.monotonic()
            with bridge.registered():
                self.assertGreater(time.monotonic() - refused, 0.9)

    def test_a_connection_for_a_session_that_does_not_come_about_costs_nothing_else(self):
        with Bridge(LISTENER) as bridge, bridge.registered() as control:
            control.say(type="open", ticket="t1")
            bridge.accept().refuse("401 Unauthorized")
            with bridge.session(control, "t2") as line:
                begin(line)

    def test_what_a_bridge_may_not_say_ends_the_connection(self):
        with Bridge(LISTENER) as bridge:
            for octets, code in (
                (ws.frame(ws.TEXT, b"hello"), 4002),
                (ws.frame(ws.TEXT, b"{}", masks=True), 1002),
            ):
                with bridge.registered() as control:
                    control.raw(octets)
                    self.assertEqual(control.closed(), code)


class Ends(unittest.TestCase):
    def test_a_signal_lets_sessions_end_and_takes_no_more(self):
        with Bridge(LISTENER) as bridge, bridge.registered() as control:
            idle, line = bridge.session(control, "t1"), bridge.session(control, "t2")
            self.addCleanup(idle.__exit__)
            self.addCleanup(line.__exit__)
            begin(line)
            bridge.process.send_signal(signal.SIGTERM)
            self.assertEqual(control.until("going_away")["in_ms"], 20_000)
            idle.raw(ws.close_frame(1001))
            self.assertEqual(idle.closed(), 1001)
            line.raw(ws.frame(ws.BINARY, bytes(320)))
            self.assertEqual(line.until("event")["data"]["octets"], 320)
            line.say(type="stop", reason="hangup", deadline_ms=3000)
            line.until("done")
            line.raw(ws.close_frame(1000))
            self.assertEqual(control.closed(), 1000)
            self.assertEqual(bridge.process.wait(PATIENCE), 0)

    def test_what_does_not_end_in_time_is_for_another_worker(self):
        for again in (False, True):
            drain = ("--drain-seconds", "60" if again else "0.3")
            with Bridge(LISTENER, *drain) as bridge, bridge.registered() as control:
                with bridge.session(control) as line:
                    begin(line)
                    bridge.process.send_signal(signal.SIGTERM)
                    control.until("going_away")
                    if again:
                        bridge.process.send_signal(signal.SIGTERM)
                    # No `done`, which would say that all is said.
                    opcode, payload = line.next()
                    self.assertEqual((opcode, ws.close_code(payload)), (ws.CLOSE, 1001))
                    self.assertEqual(bridge.process.wait(PATIENCE), 0)

    def test_a_module_that_cannot_be_loaded_does_not_register(self):
        body = LISTENER.replace("def on_stop", "def on_load(self): 1 / 0\n        def on_stop")
        with Bridge(body) as bridge:
            self.assertEqual(bridge.process.wait(PATIENCE), 70)

    def test_who_is_not_let_in_says_why(self):
        with Bridge(LISTENER) as bridge:
            bridge.accept().refuse("401 Unauthorized", "authentication failed")
            self.assertEqual(bridge.process.wait(PATIENCE), 69)
            self.assertIn(b"401 authentication failed", bridge.process.stderr.read())

    def test_a_url_that_is_none(self):
        for url in ("http://localhost/x", "wss://", "nonsense"):
            with Bridge(LISTENER, "--connect", url) as bridge:
                self.assertEqual(bridge.process.wait(PATIENCE), 64)


@unittest.skipUnless(shutil.which("openssl"), "openssl, which makes the certificate, is not here")
class Tls(unittest.TestCase):
    def test_only_who_is_vouched_for_is_told_the_token(self):
        with tempfile.TemporaryDirectory() as folder:
            key, certificate = os.path.join(folder, "key.pem"), os.path.join(folder, "ca.pem")
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                 "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                 "-keyout", key, "-out", certificate],
                check=True, capture_output=True,
            )
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate, key)
            trusting = ("--ca-file", certificate)
            with Bridge(LISTENER, *trusting, scheme="wss", tls=tls) as bridge:
                with bridge.registered() as control, bridge.session(control) as line:
                    self.assertEqual(control.bearer, "s3cret")
                    begin(line)
            with Bridge(LISTENER, scheme="wss", tls=tls) as bridge:
                with self.assertRaises(OSError):
                    bridge.accept()
                self.assertIsNone(bridge.process.poll())


class Frames(unittest.TestCase):
    def test_what_a_client_writes_a_server_reads_and_the_other_way_round(self):
        for masks in (False, True):
            for size in (0, 1, 125, 126, 65_535, 65_536):
                octets = ws.frame(ws.BINARY, bytes(size), masks)
                reader = ws.Reader(1 << 18, of_server=not masks)
                self.assertEqual(list(reader.feed(octets)), [(ws.BINARY, bytes(size))])
                if size:
                    with self.assertRaises(ws.Violation):
                        list(ws.Reader(1 << 18, of_server=masks).feed(octets))

    def test_only_a_yes_to_what_was_asked_is_a_yes(self):
        _, key = ws.request("bridge", "/x", WORKER, "t")
        accept = f"Sec-WebSocket-Accept: {ws.accept_key(key)}\r\n"
        right = f"HTTP/1.1 101 X\r\nUpgrade: websocket\r\n{accept}Sec-WebSocket-Protocol: {WORKER}\r\n"
        ws.agree(right.encode(), key, WORKER)
        for head, status in (
            (right.replace(accept, ""), 0),
            (right.replace(WORKER, "chat"), 0),
            (right.replace("websocket", "h2c"), 0),
            (right + "Sec-WebSocket-Extensions: x\r\n", 0),
            ("HTTP/1.1 503 Full\r\nRetry-After: 7\r\n", 503),
            ("HTTP/1.1 302 Found\r\n", 302),
            ("SSH-2.0-x\r\n", 0),
        ):
            with self.assertRaises(ws.Declined) as declined:
                ws.agree(head.encode(), key, WORKER)
            self.assertEqual(declined.exception.status, status, head)
            self.assertEqual(declined.exception.retry_after, 7.0 if status == 503 else 0.0)


if __name__ == "__main__":
    unittest.main()
