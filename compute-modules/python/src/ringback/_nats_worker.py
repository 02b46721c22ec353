"""The transport of a module that is a worker on NATS: takes what bridges offer to its group, many sessions over one connection.

Each direction of a session is a subject; its messages are numbered, so that none is lost unnoticed, and no more of them are under way
than a window. The contract tells it all under NATS.
"""

import argparse
import asyncio
import collections
import json
import os
import re
import secrets
import signal
import socket
import sys
from typing import Deque, Dict, List, NoReturn, Optional, Sequence, Tuple, Type, Union

from ._host import VERSION, Host
from ._module import Module, name_of
from ._nats import Client, Login, Msg, NatsError, Server, server
from ._nkeys import Credentials
from ._outbox import Outbox
from ._stdio import leave
from ._wire import AUDIO, JSON, MAX_BODY, WireError

FIELDS = {JSON: "Ringback-Json", AUDIO: "Ringback-Sound"}
TAKEN, CLOSE = "Ringback-Taken", "Ringback-Close"
WINDOW, WINDOW_OCTETS = 256, 256 * 1024
"""Messages, and octets and one message more, that may be under way in one direction."""
GOING_AWAY, BREACH, LATE, LOST = 1001, 4002, 4008, 4009
"""Codes of a close; the contract has a table of them."""
START_SECONDS = 5.0
"""A bridge whose offer was taken says `start` within this."""
SILENT_FACTOR = 2.0
"""A bridge gives a worker up after `dead_ms`; a worker its bridge after so many times that."""
LOOK_SECONDS = 0.25
STOP_SECONDS = 1.5
"""Time for all handlers to return when the process has to end."""
LINGER_SECONDS = 1.0
DRAIN_SECONDS = 20.0
EXIT_OK, EXIT_USAGE, EXIT_UNAVAILABLE, EXIT_FAILED = 0, 64, 69, 70
TOKEN_VARIABLE, PASSWORD_VARIABLE = "RINGBACK_TOKEN", "RINGBACK_NATS_PASSWORD"
TOKEN = re.compile(r"[A-Za-z0-9_-]+\Z")


class Line:
    """The way to one bridge, for one session. `send` may be called from any thread, everything else from the worker's loop."""

    def __init__(self, client: Client, prefix: str) -> None:
        self.name = secrets.token_hex(16)
        self.slot = 0
        self.sid = 0
        self.heard_at = asyncio.get_running_loop().time()
        self.silent_seconds = START_SECONDS
        self.taken = 0
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._output = f"{prefix}.v1.session.{self.name}.out"
        self._closed = False
        self._said = 0
        self._under_way: Deque[int] = collections.deque()
        self._octets = 0
        self._told = self._told_octets = self._taken_octets = 0
        self._room = asyncio.Event()
        self._room.set()
        self._outbox = Outbox(self._write, lambda: None)

    # The way out

    def send(self, slot: int, kind: int, body: bytes, urgent: bool = False) -> None:
        """Queues one message; to a bridge that is gone, nothing."""
        if not self._closed:
            self._outbox.put(bytes((kind,)) + body, urgent)

    async def drained(self) -> None:
        """Returns when there is room again."""
        await self._outbox.drained()

    def part(self, code: int, reason: str = "") -> None:
        """Says goodbye; nothing is said after it, and nothing of what was queued."""
        if not self._closed:
            plain = reason.encode("ascii", "replace").decode()[:120]
            value = " ".join(f"{code} {plain}".split())
            self._client.publish(self._output, b"", (CLOSE, value))
        self.forget()

    def forget(self) -> None:
        """Nobody hears any more."""
        self._closed = True
        self._room.set()
        self._outbox.close(0)

    def _write(self, data: bytes) -> None:
        """For the outbox, on its thread: returns when the system has taken most of it."""
        sending = asyncio.run_coroutine_threadsafe(self._send(data), self._loop)
        try:
            sending.result()
        except Exception as error:
            raise OSError("the session is gone") from error

    async def _send(self, data: bytes) -> None:
        await self._client.wait_connected()
        await self._room.wait()
        if self._closed:
            raise ConnectionResetError
        kind, body = data[0], data[1:]
        number, self._said = self._said, self._said + 1
        self._under_way.append(len(body))
        self._octets += len(body)
        self._look_for_room()
        self._client.publish(self._output, body, (FIELDS[kind], f"{number} {self._tell()}"))
        await self._client.drain()

    def _look_for_room(self) -> None:
        if len(self._under_way) < WINDOW and self._octets < WINDOW_OCTETS:
            self._room.set()
        elif not self._closed:
            self._room.clear()

    def confirmed(self, taken: int) -> None:
        """The bridge has taken so many in all."""
        if taken > self._said:
            raise WireError(f"{taken} messages taken, and {self._said} were sent")
        for _ in range(taken - (self._said - len(self._under_way))):
            self._octets -= self._under_way.popleft()
        self._look_for_room()

    # The way in

    def took(self, octets: int) -> None:
        """A message came and went to its session."""
        self.taken += 1
        self._taken_octets += octets
        behind = self.taken - self._told
        if behind >= WINDOW // 2 or self._taken_octets - self._told_octets >= WINDOW_OCTETS // 2:
            self._client.publish(self._output, b"", (TAKEN, str(self._tell())))

    def _tell(self) -> int:
        self._told, self._told_octets = self.taken, self._taken_octets
        return self.taken


class Over(Exception):
    """A session ends; with a code, or without one if it is the bridge that ended it."""

    def __init__(self, code: Optional[int] = None, reason: str = "") -> None:
        super().__init__(reason)
        self.code = code


class Worker:
    """Takes sessions of one module class, as many at a time as it has room for."""

    def __init__(
        self,
        module_class: Type[Module],
        client: Client,
        group: str,
        prefix: str,
        max_sessions: Optional[int],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._client = client
        self._group = group
        self._prefix = prefix
        self._lines: Dict[str, Line] = {}
        self._offers: Optional[int] = None
        self._is_loaded = self._is_draining = False
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._left = asyncio.Event()
        self._opened: Optional[str] = None
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self.code = EXIT_OK
        self.host = Host(module_class, None, self._failed, max_sessions)

    async def run(self, opened: str, drain_seconds: float) -> bool:
        """Works until a signal or a failure; whether all handlers returned in time. Prints `opened` once it takes sessions."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._signalled)
        self._opened = opened
        self.host.start()
        connection = self._loop.create_task(self._client.run(self._connected))
        loading = self._loop.run_in_executor(None, self.host.wait_loaded)
        watch = self._loop.create_task(self._watch())
        stop = self._loop.create_task(self._stop.wait())
        try:
            await asyncio.wait((connection, stop, loading), return_when=asyncio.FIRST_COMPLETED)
            if loading.done() and not stop.done() and not connection.done():
                self._is_loaded = loading.result()
                if self._client.ever_connected:
                    await self._connected()
                await asyncio.wait((connection, stop), return_when=asyncio.FIRST_COMPLETED)
            if connection.done():
                self._refused(connection)
            else:
                await self._drain(drain_seconds)
        finally:
            for task in (watch, connection, stop):
                task.cancel()
        return await self._loop.run_in_executor(None, self.host.close, STOP_SECONDS)

    def _signalled(self) -> None:
        if self._stop.is_set():
            self._stop_now.set()
        self._stop.set()

    def _failed(self) -> None:
        """The module cannot be loaded; called on another thread."""
        self.code = EXIT_FAILED
        self._loop.call_soon_threadsafe(self._stop.set)

    def _refused(self, connection: "asyncio.Task[None]") -> None:
        self.code = EXIT_UNAVAILABLE
        print(f"ringback: {connection.exception()}", file=sys.stderr, flush=True)

    async def _connected(self) -> None:
        """There is a connection: offers are taken once the module is loaded."""
        if not self._is_loaded:
            return
        self._ask_for_offers()
        if self._opened is not None:
            await self._client.flush()
            print(self._opened, flush=True)
            self._opened = None

    async def _drain(self, seconds: float) -> None:
        """Takes no more, waits for what there is, and hands over what is left."""
        self._is_draining = True
        self._ask_for_offers()
        self._left.clear()  # Set since the last time that there was none
        now = self._loop.create_task(self._stop_now.wait())
        left = self._loop.create_task(self._left.wait())
        if self._lines and self.code == EXIT_OK:
            await asyncio.wait((now, left), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        now.cancel()
        left.cancel()
        for line in list(self._lines.values()):
            self._end(line, GOING_AWAY, "the worker ends")
        try:
            await asyncio.wait_for(self._client.flush(), LINGER_SECONDS)
        except (OSError, asyncio.TimeoutError):
            pass  # Bridges find out by themselves.

    # Offers

    def _ask_for_offers(self) -> None:
        """Is in the group while there is room, and not otherwise: then others are asked."""
        has_room = len(self._lines) < self.host.max_sessions
        wanted = has_room and self._is_loaded and not self._is_draining
        if wanted and self._offers is None:
            subject = f"{self._prefix}.v1.offer.{self._group}"
            self._offers = self._client.subscribe(subject, self._offered, queue="workers")
        elif not wanted and self._offers is not None:
            self._client.unsubscribe(self._offers)
            self._offers = None

    def _offered(self, offer: Msg) -> None:
        if offer.reply is None:
            return
        refusal = self._refusal(offer)
        if refusal is not None:
            self._client.publish(offer.reply, json.dumps({"type": "reject", **refusal}).encode())
            return
        line = Line(self._client, self._prefix)
        line.slot = self.host.attach(line)
        self._lines[line.name] = line
        subject = f"{self._prefix}.v1.session.{line.name}.in"
        line.sid = self._client.subscribe(subject, lambda message: self._came(line, message))
        answer = {"type": "take", "session": line.name, "worker": self.name}
        self._client.publish(offer.reply, json.dumps(answer).encode())
        self._ask_for_offers()

    def _refusal(self, offer: Msg) -> Optional[Dict[str, str]]:
        if len(self._lines) >= self.host.max_sessions or self._is_draining:
            # It was on its way when we left the group.
            return {"code": "busy", "message": f"{len(self._lines)} sessions"}
        try:
            version = json.loads(offer.payload)["v"]
        except (ValueError, KeyError, TypeError):
            return {"code": "bad_message", "message": "the offer is none"}
        if version != VERSION:
            return {
                "code": "unsupported_version",
                "message": f"this module speaks version {VERSION}",
            }
        return None

    # Sessions

    def _came(self, line: Line, message: Msg) -> None:
        line.heard_at = self._loop.time()
        try:
            self._take(line, message)
        except Over as over:
            self._end(line, over.code, str(over))
        except WireError as error:
            self._end(line, BREACH, str(error))

    def _take(self, line: Line, message: Msg) -> None:
        fields, body = message.headers, message.payload
        for kind, name in FIELDS.items():
            if name in fields:
                break
        else:
            if CLOSE in fields:
                raise Over
            line.confirmed(_number(fields.get(TAKEN)))
            return
        number, _, confirmed = fields[name].partition(" ")
        missing = _number(number) - line.taken
        if missing:
            raise Over(LOST, f"{abs(missing)} messages to it were lost on their way")
        if len(body) > MAX_BODY:
            raise WireError(f"message of {len(body)} octets; the contract allows {MAX_BODY}")
        line.confirmed(_number(confirmed))
        self.host.receive(kind, line.slot, body)
        line.took(len(body))
        if number == "0":
            runner = self.host.session(line.slot)
            limits = (runner.session.start.get("limits") or {}) if runner is not None else {}
            line.silent_seconds = SILENT_FACTOR * limits.get("dead_ms", 2_000) / 1_000

    def _end(self, line: Line, code: Optional[int], reason: str = "") -> None:
        if self._lines.pop(line.name, None) is None:
            return
        self._client.unsubscribe(line.sid)
        # Before the session ends, or its `done` would tell the bridge that all is said.
        if code is None:
            line.forget()
        else:
            print(f"ringback: session closed with {code}: {reason}", file=sys.stderr, flush=True)
            line.part(code, reason)
        self.host.detach(line.slot, STOP_SECONDS)
        self._ask_for_offers()
        if not self._lines:
            self._left.set()

    async def _watch(self) -> None:
        """Frees the sessions of bridges that are silent, which they never are while they live."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = self._loop.time()
            for line in list(self._lines.values()):
                if now - line.heard_at > line.silent_seconds:
                    self._end(line, LATE, f"nothing was heard for {line.silent_seconds:.1f} s")


def _number(text: Optional[str]) -> int:
    if text is None or not text.isdecimal():
        raise WireError("a message without a field of ringback.v1")
    return int(text)


def nats(
    module_class: Type[Module],
    servers: Union[str, Sequence[str]],
    group: str,
    token: Optional[str] = None,
    user: Optional[str] = None,
    password: Optional[str] = None,
    credentials: Optional[str] = None,
    ca_file: Optional[str] = None,
    prefix: str = "ringback",
    max_sessions: Optional[int] = None,
    drain_seconds: float = DRAIN_SECONDS,
) -> NoReturn:
    """Works for bridges on a NATS cluster until SIGTERM or Ctrl-C, then exits.

    `servers` are URLs such as `nats://127.0.0.1:4222`; `group` and `prefix` are those of the bridges' `ringback.toml`. `credentials`
    is the text of a `.creds` file. Prints a line once it takes sessions. A connection that breaks is made again; sessions that lost
    something with it go elsewhere, and lose nothing there. `max_sessions` is in the place of the class attribute. On SIGTERM it takes
    nothing new and waits `drain_seconds` for its sessions to end; what is left then, or at the second signal, other workers get.
    Call it from the main thread, last.

    Exit codes: 0 all done, 64 an option makes no sense, 69 the servers do not let us in, 70 the module could not be loaded.
    """
    urls = [servers] if isinstance(servers, str) else list(servers)
    where = [server(url) for url in urls]
    if not where:
        raise ValueError("name a server")
    for what, text in (("group", group), *(("prefix", part) for part in prefix.split("."))):
        if not TOKEN.match(text):
            raise ValueError(f"{what} {text!r}: it is made of letters, digits, - and _")
    creds = Credentials(credentials) if credentials is not None else None
    login = Login(token, user, password, creds, ca_file)
    code, finished = asyncio.run(
        _work(module_class, where, login, group, prefix, max_sessions, drain_seconds)
    )
    leave(code, finished)


async def _work(
    module_class: Type[Module],
    servers: List[Server],
    login: Login,
    group: str,
    prefix: str,
    max_sessions: Optional[int],
    drain_seconds: float,
) -> Tuple[int, bool]:
    name = name_of(module_class)
    client = Client(servers, login, f"ringback worker {name}")
    worker = Worker(module_class, client, group, prefix, max_sessions)
    limit = worker.host.max_sessions
    calls = "1 call at a time (max_sessions)" if limit == 1 else f"{limit} calls at a time"
    where = ", ".join(map(str, servers))
    finished = await worker.run(f"{name}, {calls}: group {group} at {where}", drain_seconds)
    return worker.code, finished


def is_asked_for(arguments: List[str]) -> bool:
    """Whether a command line asks to be a worker on NATS."""
    return any(word == "--nats" or word.startswith("--nats=") for word in arguments)


def run_on_nats(module_class: Type[Module], arguments: List[str]) -> NoReturn:
    """Works as the command line says."""
    parser = argparse.ArgumentParser(description="Makes a compute module a worker on NATS.")
    parser.add_argument(
        "--nats", metavar="URL", required=True, help="servers, such as nats://127.0.0.1:4222; several with commas"
    )
    parser.add_argument("--group", required=True, help="which of the bridges' modules it is")
    parser.add_argument("--prefix", default="ringback", help="what all subjects begin with")
    parser.add_argument("--max-sessions", type=int, help="calls at a time, if not as the class says")
    parser.add_argument("--token-file", help=f"file with the token; else {TOKEN_VARIABLE}, if set")
    parser.add_argument("--user", help=f"user, whose password is in {PASSWORD_VARIABLE}")
    parser.add_argument("--password-file", help="file with the password")
    parser.add_argument("--creds", metavar="FILE", help="credentials file; needs `pip install cryptography`")
    parser.add_argument("--ca-file", help="certificate authorities to trust, in place of the system's")
    parser.add_argument(
        "--drain-seconds", type=float, default=DRAIN_SECONDS, help="time for calls to end after SIGTERM"
    )
    options = parser.parse_args(arguments)
    try:
        token = _kept(options.token_file, TOKEN_VARIABLE)
        password = _kept(options.password_file, PASSWORD_VARIABLE) if options.user else None
        nats(
            module_class,
            options.nats.split(","),
            options.group,
            None if options.user or options.creds else token,
            options.user,
            password,
            _read(options.creds) if options.creds else None,
            options.ca_file,
            options.prefix,
            options.max_sessions,
            options.drain_seconds,
        )
    except (OSError, ValueError) as error:
        parser.exit(EXIT_USAGE, f"ringback: {error}\n")


def _kept(path: Optional[str], variable: str) -> Optional[str]:
    """A secret from a file or the environment."""
    text = _read(path).strip() if path else os.environ.get(variable)
    if text == "":
        raise ValueError(f"{path or variable} is empty")
    return text


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()
