"""A small client of NATS: one connection that is made again when it breaks. Knows nothing of modules.

What is published while there is no connection is lost, as it is with NATS in any case; who must know numbers what he says.
"""

import asyncio
import itertools
import json
import random
import ssl
import sys
from typing import Any, Awaitable, Callable, Dict, List, NamedTuple, Optional, Tuple, Union

from ._nkeys import Credentials
from ._wire import MAX_BODY

DEFAULT_PORT = 4222
HEADER_OCTETS = 1_024
"""More than all header fields of ours."""
LEAST_PAYLOAD = MAX_BODY + HEADER_OCTETS
MAX_LINE = 64 * 1024
"""Longest line that is no payload; what a server tells of its cluster is the longest."""
CONNECT_SECONDS = 5.0
QUIET_SECONDS = 5.0
"""A server that says nothing for so long is asked for a sign of life, and given up after as long again."""
FIRST_PAUSE, MAX_PAUSE = 0.05, 2.0
READ_OCTETS = 65_536
MAGIC = b"NATS/1.0"


class NatsError(Exception):
    """The server cannot be used; `final` if trying again would not help."""

    def __init__(self, message: str, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class Msg(NamedTuple):
    """A message that came."""

    subject: str
    reply: Optional[str]
    headers: Dict[str, str]
    payload: bytes


class Login(NamedTuple):
    """How we prove who we are, and whom we trust."""

    token: Optional[str] = None
    user: Optional[str] = None
    password: Optional[str] = None
    credentials: Optional[Credentials] = None
    ca_file: Optional[str] = None

    def __repr__(self) -> str:
        return "Login([redacted])"


class Server(NamedTuple):
    """Where a server is."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        scheme = "tls" if self.tls else "nats"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"


def server(url: str) -> Server:
    """The server of a URL. Raises `ValueError` that does not repeat what may be a password."""
    scheme, mark, rest = url.strip().partition("://")
    if not mark or scheme not in ("nats", "tls"):
        raise ValueError(f"expected nats:// or tls://, such as nats://127.0.0.1:{DEFAULT_PORT}")
    if "@" in rest:
        raise ValueError("user, password and token do not stand in the URL")
    host, colon, port = rest.rstrip("/").rpartition(":")
    if not colon or port.endswith("]"):
        host, port = rest.rstrip("/"), str(DEFAULT_PORT)
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError(f"{rest!r} is no host and port; write it as 127.0.0.1:{DEFAULT_PORT}")
    return Server(host.strip("[]"), int(port), scheme == "tls")


class Info(NamedTuple):
    """What the server says of itself."""

    fields: Dict[str, Any]


class Control(NamedTuple):
    """`PING`, `PONG`, `+OK`, or `-ERR` and its text."""

    name: str
    text: str


class Delivery(NamedTuple):
    """A message, and the number of the subscription it is for."""

    sid: int
    message: Msg


Op = Union[Info, Control, Delivery]


class Parser:
    """Octets from a server, whatever pieces they come in, to what they mean."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._pending: Optional[Tuple[int, str, Optional[str], int, int]] = None

    def feed(self, data: bytes) -> List[Op]:
        """All that is whole with this. Raises `NatsError` for what is not NATS."""
        self._buffer += data
        ops: List[Op] = []
        while True:
            op = self._payload() if self._pending else self._line()
            if op is None:
                return ops
            if not isinstance(op, bool):
                ops.append(op)

    def _line(self) -> Union[Op, bool, None]:
        """An operation; True if its payload follows; None if there is no whole line."""
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > MAX_LINE:
                raise NatsError("what answers does not speak NATS")
            return None
        line = bytes(self._buffer[:end]).decode("utf-8", "replace")
        del self._buffer[: end + 2]
        name, _, rest = line.partition(" ")
        name = name.upper()
        try:
            if name in ("MSG", "HMSG"):
                return self._head(name == "HMSG", rest.split())
            if name == "INFO":
                return Info(dict(json.loads(rest)))
        except (ValueError, IndexError) as error:
            raise NatsError(f"what answers does not speak NATS: {line[:80]!r}") from error
        if name in ("PING", "PONG", "+OK", "-ERR"):
            return Control(name, rest.strip("' "))
        raise NatsError(f"what answers does not speak NATS: {line[:80]!r}")

    def _head(self, has_headers: bool, words: List[str]) -> bool:
        total = int(words.pop())
        head = int(words.pop()) if has_headers else 0
        if not 0 <= head <= total or total > 2 * LEAST_PAYLOAD:
            raise ValueError(total)
        subject, sid = words[0], int(words[1])
        self._pending = (sid, subject, words[2] if len(words) > 2 else None, head, total)
        return True

    def _payload(self) -> Optional[Op]:
        assert self._pending is not None
        sid, subject, reply, head, total = self._pending
        if len(self._buffer) < total + 2:
            return None
        headers = _headers(bytes(self._buffer[:head])) if head else {}
        payload = bytes(self._buffer[head:total])
        del self._buffer[: total + 2]
        self._pending = None
        return Delivery(sid, Msg(subject, reply, headers, payload))


def _headers(block: bytes) -> Dict[str, str]:
    """Header fields; a status such as 503 is the field `Status`."""
    lines = block.decode("utf-8", "replace").split("\r\n")
    fields = {"Status": lines[0][len(MAGIC) :].strip()}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            fields[name] = value.strip()
    return fields


class Client:
    """A connection to one of `servers`. All of it belongs to the event loop it was made in."""

    def __init__(self, servers: List[Server], login: Login, name: str) -> None:
        self._servers = servers
        self._login = login
        self._name = name
        self._sids = itertools.count(1)
        self._subscriptions: Dict[int, Tuple[str, str, Callable[[Msg], None]]] = {}
        self._writer: Optional[asyncio.StreamWriter] = None
        self._below_tls: Optional[asyncio.StreamWriter] = None
        self._connected = asyncio.Event()
        # Who waits for which answer; None for nobody.
        self._pongs: List["Optional[asyncio.Future[None]]"] = []
        self._turn = asyncio.Lock()
        self.ever_connected = False

    async def run(self, on_connected: Callable[[], Awaitable[None]]) -> None:
        """Connects, and connects again, until it is cancelled. Raises `NatsError` if it may not come in at all."""
        for attempt in itertools.count():
            where = self._servers[attempt % len(self._servers)]
            began = asyncio.get_running_loop().time()
            try:
                await self._session(where, on_connected)
                reason = "the connection was closed"
            except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError) as error:
                reason = str(error) or type(error).__name__
            except NatsError as error:
                if error.final and not self.ever_connected:
                    raise
                reason = str(error)
            finally:
                self._lost()
            if attempt == 0 or asyncio.get_running_loop().time() - began > QUIET_SECONDS:
                pause = FIRST_PAUSE
                print(f"ringback: {where}: {reason}; trying again", file=sys.stderr, flush=True)
            await asyncio.sleep(pause * random.uniform(0.75, 1))
            pause = min(pause * 2, MAX_PAUSE)

    async def wait_connected(self) -> None:
        """Returns when there is a connection."""
        await self._connected.wait()

    def subscribe(self, subject: str, on_message: Callable[[Msg], None], queue: str = "") -> int:
        """From now on, and after every reconnect, `on_message` is called for each message; it must not wait."""
        sid = next(self._sids)
        self._subscriptions[sid] = (subject, queue, on_message)
        self._write(_sub(sid, subject, queue))
        return sid

    def unsubscribe(self, sid: int) -> None:
        """No more of it."""
        if self._subscriptions.pop(sid, None) is not None:
            self._write(f"UNSUB {sid}\r\n".encode())

    def publish(self, subject: str, payload: bytes, field: Optional[Tuple[str, str]] = None) -> None:
        """Hands a message to the system, with one header field at most."""
        if field is None:
            self._write(f"PUB {subject} {len(payload)}\r\n".encode() + payload + b"\r\n")
            return
        head = b"%b\r\n%b: %b\r\n\r\n" % (MAGIC, field[0].encode(), field[1].encode())
        line = f"HPUB {subject} {len(head)} {len(head) + len(payload)}\r\n".encode()
        self._write(b"".join((line, head, payload, b"\r\n")))

    async def drain(self) -> None:
        """Returns when the system has taken most of what was published."""
        writer = self._writer
        if writer is not None:
            # Before Python 3.11 only one may wait for a writer at a time.
            async with self._turn:
                await writer.drain()

    async def flush(self) -> None:
        """Returns when the server has dealt with all of it."""
        if self._writer is None:
            raise ConnectionResetError
        pong = asyncio.get_running_loop().create_future()
        self._pongs.append(pong)
        self._write(b"PING\r\n")
        await pong

    # Inside

    def _write(self, data: bytes) -> None:
        if self._writer is not None:
            self._writer.write(data)

    def _lost(self) -> None:
        self._connected.clear()
        writer, self._writer, self._below_tls = self._writer, None, None
        if writer is not None:
            writer.transport.abort()
        for pong in self._pongs:
            if pong is not None and not pong.done():
                pong.set_exception(ConnectionResetError())
        self._pongs.clear()

    async def _session(self, where: Server, on_connected: Callable[[], Awaitable[None]]) -> None:
        """One connection, from greeting to end."""
        parser = Parser()
        reader, writer = await asyncio.wait_for(self._greet(where, parser), CONNECT_SECONDS)
        self._writer = writer
        for sid, (subject, queue, _) in self._subscriptions.items():
            self._write(_sub(sid, subject, queue))
        self._connected.set()
        self.ever_connected = True
        loop = asyncio.get_running_loop()
        self._heard = loop.time()
        watch = loop.create_task(self._watch(writer))
        ready = loop.create_task(_quietly(on_connected))
        try:
            while True:
                data = await reader.read(READ_OCTETS)
                if not data:
                    return
                self._heard = loop.time()
                for op in parser.feed(data):
                    self._handle(op)
        finally:
            watch.cancel()
            ready.cancel()

    async def _watch(self, writer: asyncio.StreamWriter) -> None:
        """Cuts a connection on which nothing comes any more."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(QUIET_SECONDS / 2)
            quiet = loop.time() - self._heard
            if quiet >= 2 * QUIET_SECONDS:
                writer.transport.abort()
            elif quiet >= QUIET_SECONDS:
                self._pongs.append(None)
                writer.write(b"PING\r\n")

    async def _greet(
        self, where: Server, parser: Parser
    ) -> Tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(where.host, where.port, limit=MAX_LINE)
        try:
            info = await self._info(reader, parser)
            if where.tls or info.get("tls_required"):
                reader, writer = await self._secured(writer, where)
            connect = json.dumps(self._connect(info))
            writer.write(f"CONNECT {connect}\r\nPING\r\n".encode())
            while True:
                op = parser.feed(await reader.readuntil(b"\r\n"))[-1]
                if isinstance(op, Control) and op.name == "PONG":
                    return reader, writer
                if isinstance(op, Control) and op.name == "-ERR":
                    raise NatsError(op.text, final=op.text.startswith("Auth"))
        except BaseException:
            writer.transport.abort()
            raise

    async def _info(self, reader: asyncio.StreamReader, parser: Parser) -> Dict[str, Any]:
        try:
            ops = parser.feed(await reader.readuntil(b"\r\n"))
        except asyncio.LimitOverrunError:
            ops = []
        if not ops or not isinstance(ops[0], Info):
            raise NatsError("what answers does not speak NATS")
        info = ops[0].fields
        if not info.get("headers", False):
            raise NatsError("the server knows no header fields: it must be 2.2 or later", final=True)
        if int(info.get("max_payload", 0)) < LEAST_PAYLOAD:
            limit = info.get("max_payload")
            raise NatsError(
                f"the server takes messages of up to {limit} octets: set its max_payload to {LEAST_PAYLOAD} or more",
                final=True,
            )
        return info

    async def _secured(
        self, writer: asyncio.StreamWriter, where: Server
    ) -> Tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        context = ssl.create_default_context(cafile=self._login.ca_file)
        reader = asyncio.StreamReader(limit=MAX_LINE)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport = await loop.start_tls(
                writer.transport, protocol, context, server_hostname=where.host
            )
        except ssl.SSLCertVerificationError as error:
            raise NatsError(f"its certificate: {error.verify_message}", final=True) from error
        assert transport is not None
        # Forgotten, it would close what TLS runs over.
        self._below_tls = writer
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    def _connect(self, info: Dict[str, Any]) -> Dict[str, Any]:
        login = self._login
        connect: Dict[str, Any] = {
            "verbose": False,
            "pedantic": False,
            "lang": "python",
            "version": "ringback",
            "name": self._name,
            "protocol": 1,
            "headers": True,
            "no_responders": True,
            "auth_token": login.token,
            "user": login.user,
            "pass": login.password,
        }
        if login.credentials is not None:
            connect["jwt"] = login.credentials.jwt
            connect["sig"] = login.credentials.sign(str(info.get("nonce", "")))
        return {key: value for key, value in connect.items() if value is not None}

    def _handle(self, op: Op) -> None:
        if isinstance(op, Delivery):
            subscription = self._subscriptions.get(op.sid)
            if subscription is not None:
                subscription[2](op.message)
        elif isinstance(op, Control):
            if op.name == "PING":
                self._write(b"PONG\r\n")
            elif op.name == "PONG":
                if self._pongs:
                    pong = self._pongs.pop(0)
                    if pong is not None and not pong.done():
                        pong.set_result(None)
            elif op.name == "-ERR":
                # Most of them end the connection, which says so itself.
                print(f"ringback: NATS says: {op.text}", file=sys.stderr, flush=True)


async def _quietly(on_connected: Callable[[], Awaitable[None]]) -> None:
    try:
        await on_connected()
    except OSError:
        pass  # The connection broke again; it is told and made anew elsewhere.


def _sub(sid: int, subject: str, queue: str) -> bytes:
    words = ["SUB", subject, queue, str(sid)]
    return (" ".join(word for word in words if word) + "\r\n").encode()
