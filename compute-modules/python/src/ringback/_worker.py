"""The transport of a module that dials bridges and waits there for sessions: nothing here has to be reachable. Loads no module
itself.

It registers on one connection, and opens another for each session when it is told to, with the ticket it is given for that.
"""

import argparse
import asyncio
import os
import random
import signal
import ssl
import sys
import time
from typing import List, NoReturn, Optional, Sequence, Set, Tuple, Type, Union
from urllib.parse import urlsplit

from ._host import Host
from ._line import (
    BREACH,
    GOING_AWAY,
    LATE,
    NORMAL,
    SILENT_SECONDS,
    STOP_SECONDS,
    SUBPROTOCOL,
    Closed,
    Connection,
    converse,
    heard,
)
from ._module import Module, name_of, overrides
from ._server import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    HEAD_OCTETS,
    TOKEN_VARIABLE,
    token_of,
)
from ._stdio import leave
from ._websocket import TEXT, Declined, Violation, agree, body_length, request
from ._wire import JSON, Message, WireError, dump, load

WORKER_SUBPROTOCOL = "ringback.v1.worker"
CONNECT_SECONDS = 10.0
"""Time for a connection and its upgrade."""
FIRST_PAUSE, MAX_PAUSE = 0.2, 10.0
"""Seconds before a bridge is dialled again: doubled each time, with a quarter of chance."""
DRAIN_SECONDS = 20.0
"""Time for sessions to end after SIGTERM: what Kubernetes gives a pod, less a little."""
LOAD_SECONDS = 2.0
"""A load that the module tells is asked for this often."""
REPORT_SECONDS = 0.2
"""And a number of sessions that changes is told no more often than this."""
MORE_CONNECTIONS = 8
"""Connections that a bridge may ask for beyond the sessions that are taken at once."""
MAX_REASON = 2048


class Bridge:
    """Where to dial, and as whom."""

    def __init__(self, url: str, token: Optional[str], ca_file: Optional[str]) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise ValueError(f"{url!r} is no URL of a bridge; write it as wss://bridge.example/modules/NAME")
        if ca_file and parts.scheme == "ws":
            raise ValueError("a ca_file is for wss:// only: by ws:// no certificate is shown")
        self.url = url
        self.token = token
        self._secure = parts.scheme == "wss"
        self._host: str = parts.hostname
        self._port = parts.port or (443 if self._secure else 80)
        self._authority = parts.netloc.rpartition("@")[2]
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._tls = ssl.create_default_context(cafile=ca_file) if self._secure else None
        self.is_open_to_all = not self._secure and self._host not in ("127.0.0.1", "::1", "localhost")

    async def dial(
        self, subprotocol: str, bearer: Optional[str]
    ) -> Tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection that speaks `subprotocol`. Raises `Declined`, `OSError` or `asyncio.TimeoutError`."""
        return await asyncio.wait_for(self._dial(subprotocol, bearer), CONNECT_SECONDS)

    async def _dial(
        self, subprotocol: str, bearer: Optional[str]
    ) -> Tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(
            self._host, self._port, ssl=self._tls, limit=HEAD_OCTETS
        )
        try:
            asked, key = request(self._authority, self._target, subprotocol, bearer)
            writer.write(asked)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            try:
                agree(head, key, subprotocol)
            except Declined as no:
                body = await reader.read(min(body_length(head), MAX_REASON)) if no.status else b""
                text = body.decode("utf-8", "replace").strip()
                raise Declined(no.status, text, no.retry_after) if text else no from None
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.close()
            raise Declined(0, "the answer ended before it was whole") from None
        except BaseException:
            writer.close()
            raise
        return reader, writer


class Worker:
    """Waits at bridges for sessions of one module class."""

    def __init__(
        self,
        module_class: Type[Module],
        bridges: Sequence[Bridge],
        max_sessions: Optional[int],
        drain: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._bridges = bridges
        self._drain = drain
        self._module_class = module_class
        self._registered: Set[Connection] = set()
        self._sessions: Set[Connection] = set()
        self._opening: "Set[asyncio.Task[None]]" = set()
        self._changed = asyncio.Event()
        self._leaving = asyncio.Event()
        self._hurry = asyncio.Event()
        self.code = EXIT_OK
        self.host = Host(module_class, None, self._failed, max_sessions, self._on_change)

    async def run(self) -> bool:
        """Waits for sessions until a signal or a failure; whether all handlers returned in time."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._signalled)
        self.host.start()
        # Sessions come at once when it is registered, so it has to be ready for them.
        loaded = self._loop.run_in_executor(None, self.host.wait_loaded)
        await self._either(loaded, self._leaving)
        if loaded.done() and loaded.result():
            kept = [asyncio.ensure_future(self._keep(bridge)) for bridge in self._bridges]
            await asyncio.gather(*kept)
        for task in self._opening:
            task.cancel()
        # Before the sessions end, or their `done` would tell the bridge that all is said: another worker takes them up.
        for connection in self._sessions:
            connection.part(GOING_AWAY, "the worker ends")
        await asyncio.gather(*(connection.end() for connection in list(self._sessions)))
        return await self._loop.run_in_executor(None, self.host.close, STOP_SECONDS)

    def _signalled(self) -> None:
        """The first signal lets sessions end, the second does not."""
        if self._leaving.is_set():
            self._hurry.set()
        self._leaving.set()

    def _failed(self) -> None:
        """The module cannot be loaded; called on another thread."""
        self.code = EXIT_FAILED
        self._loop.call_soon_threadsafe(self._leaving.set)

    def _on_change(self) -> None:
        """A session began or ended; called on any thread."""
        try:
            self._loop.call_soon_threadsafe(self._changed.set)
        except RuntimeError:
            pass  # The loop is closed: nobody wants to know any more.

    # One bridge

    async def _keep(self, bridge: Bridge) -> None:
        """Is registered with a bridge for as long as this process wants sessions."""
        pause, ever = FIRST_PAUSE, False
        while not self._leaving.is_set():
            since = time.monotonic()
            least = 0.0
            try:
                ever = await self._register(bridge) or ever
            except Declined as no:
                _say(f"{bridge.url}: {no}")
                least = no.retry_after
                if not ever and 400 <= no.status < 500 and no.status not in (408, 425, 429):
                    # Nothing that a second try would mend; who was in before is let in again when its bridge has been set right.
                    self.code = self.code or EXIT_UNAVAILABLE
                    return
            except (OSError, asyncio.TimeoutError) as error:
                _say(f"{bridge.url}: cannot connect: {error or 'no answer in time'}")
            if time.monotonic() - since > MAX_PAUSE:
                pause = FIRST_PAUSE
            if not self._leaving.is_set():
                wait = max(pause * random.uniform(0.75, 1.0), min(least, 60.0))
                await self._either(asyncio.sleep(wait), self._leaving)
                pause = min(pause * 2, MAX_PAUSE)

    async def _register(self, bridge: Bridge) -> bool:
        """Registers and serves until the connection ends; whether it ever was taken."""
        reader, writer = await bridge.dial(WORKER_SUBPROTOCOL, bridge.token)
        connection = Connection(writer, masks=True)
        connection.send(0, JSON, dump(self.host.registration()))
        serving = asyncio.ensure_future(self._attend(bridge, reader, connection))
        try:
            await self._either(serving, self._leaving)
            if not serving.done():
                await self._say_goodbye(connection, serving)
        finally:
            taken = connection in self._registered
            self._registered.discard(connection)
            if not serving.done():
                serving.cancel()
            code = await self._verdict(bridge, serving)
            connection.part(code)
            await connection.end()
        return taken

    async def _verdict(self, bridge: Bridge, serving: "asyncio.Future[None]") -> int:
        """Says why a connection ended; what to close it with."""
        try:
            await serving
        except Closed as closed:
            if not self._leaving.is_set():
                _say(f"{bridge.url}: closed with {closed}")
        except Violation as error:
            _say(f"{bridge.url}: {error}")
            return error.code
        except WireError as error:
            _say(f"{bridge.url}: {error}")
            return BREACH
        except asyncio.TimeoutError:
            _say(f"{bridge.url}: nothing was heard for {SILENT_SECONDS:.0f} s")
            return LATE
        except (OSError, asyncio.CancelledError):
            pass
        return NORMAL

    async def _attend(
        self, bridge: Bridge, reader: asyncio.StreamReader, connection: Connection
    ) -> None:
        reporting: "Optional[asyncio.Task[None]]" = None
        try:
            async for opcode, payload in heard(reader, connection):
                message = load(payload) if opcode == TEXT else {"type": "sound"}
                if message["type"] == "registered":
                    self._registered.add(connection)
                    name, most = name_of(self._module_class), self.host.max_sessions
                    calls = "1 call" if most == 1 else f"{most} calls"
                    print(f"{name}, {calls} at a time: {bridge.url} as {message.get('worker')}", flush=True)
                    reporting = reporting or asyncio.ensure_future(self._report(connection))
                elif message["type"] == "ping":
                    pong = {"type": "pong", "t": message.get("t", 0)}
                    connection.send(0, JSON, dump(pong), urgent=True)
                elif message["type"] == "open":
                    self._open(bridge, str(message.get("ticket")))
        finally:
            if reporting is not None:
                reporting.cancel()

    async def _report(self, connection: Connection) -> None:
        """Tells how busy this process is whenever that changes."""
        module = self.host.module
        asks = module is not None and overrides(type(module), "current_load")
        told: Optional[Message] = None
        while True:
            self._changed.clear()
            report: Message = {"type": "load", "sessions": self.host.sessions}
            load = None
            if asks and module is not None:
                load = await self._loop.run_in_executor(None, _load_of, module)
            if load is not None:
                report["load"] = load
            if report != told:
                connection.send(0, JSON, dump(report))
                told = report
            await asyncio.sleep(REPORT_SECONDS)
            try:
                await asyncio.wait_for(self._changed.wait(), LOAD_SECONDS if asks else None)
            except asyncio.TimeoutError:
                pass

    async def _say_goodbye(self, connection: Connection, serving: "asyncio.Future[None]") -> None:
        """No more sessions; those that are here may end."""
        going = {"type": "going_away", "in_ms": round(self._drain * 1000)}
        connection.send(0, JSON, dump(going))
        until = time.monotonic() + self._drain
        while self.host.sessions or self._busy():
            left = until - time.monotonic()
            if left <= 0 or self._hurry.is_set():
                return
            await self._either(asyncio.sleep(min(left, 0.1)), self._hurry)

    def _busy(self) -> bool:
        """Whether a connection is open that a session may be on: the bridge closes those that are idle, and those whose session is over."""
        return bool(self._sessions)

    # Sessions

    def _open(self, bridge: Bridge, ticket: str) -> None:
        if len(self._sessions) + len(self._opening) >= self.host.max_sessions + MORE_CONNECTIONS:
            _say(f"{bridge.url}: asks for more connections than it may have sessions")
            return
        task = asyncio.ensure_future(self._session(bridge, ticket))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _session(self, bridge: Bridge, ticket: str) -> None:
        try:
            reader, writer = await bridge.dial(SUBPROTOCOL, ticket)
        except (Declined, OSError, asyncio.TimeoutError) as error:
            _say(f"{bridge.url}: no connection for a session: {error or 'no answer in time'}")
            return
        connection = Connection(writer, masks=True)
        self._sessions.add(connection)
        me = asyncio.current_task()
        if me is not None:
            self._opening.discard(me)
        try:
            await converse(self.host, reader, connection)
        except OSError:
            pass  # It is gone; its session was told.
        finally:
            self._sessions.discard(connection)
            writer.close()

    async def _either(self, awaitable: "asyncio.Future[object]", event: asyncio.Event) -> None:
        """Waits for the one or the other."""
        waiting = asyncio.ensure_future(event.wait())
        other = asyncio.ensure_future(awaitable)
        await asyncio.wait({waiting, other}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if asyncio.iscoroutine(awaitable):
            other.cancel()


def _load_of(module: Module) -> Optional[float]:
    try:
        load = module.current_load()
    except Exception as error:
        _say(f"current_load failed: {type(error).__name__}: {error}")
        return None
    return None if load is None else min(1.0, max(0.0, float(load)))


def _say(text: str) -> None:
    print(f"ringback: {text}", file=sys.stderr, flush=True)


def connect(
    module_class: Type[Module],
    url: Union[str, Sequence[str]],
    token: Optional[str] = None,
    max_sessions: Optional[int] = None,
    ca_file: Optional[str] = None,
    drain: float = DRAIN_SECONDS,
) -> NoReturn:
    """Dials the bridge at `url` (`wss://bridge.example/modules/NAME`; several are dialled alike), waits there for sessions until
    SIGTERM or Ctrl-C, and exits when those it has are over, or after `drain` seconds, or on a second signal.

    `token` is shown as a bearer token; without one a bridge lets in who is on its own machine, if at all. `ca_file` has the
    authorities to trust in the place of the system's. `max_sessions` is in the place of the class attribute. A bridge that is gone is
    dialled again. Call it from the main thread, last.

    Exit codes: 0 all done, 64 the URL is none, 69 no bridge lets it in, 70 the module could not be loaded.
    """
    urls = [url] if isinstance(url, str) else list(url)
    bridges = [Bridge(each, token, ca_file) for each in urls]
    if not bridges:
        raise ValueError("no URL of a bridge")
    if token is not None and any(bridge.is_open_to_all for bridge in bridges):
        _say("by ws:// the token and the calls can be read on the way; use wss://")
    code, finished = asyncio.run(_connect(module_class, bridges, max_sessions, drain))
    leave(code, finished)


async def _connect(
    module_class: Type[Module],
    bridges: Sequence[Bridge],
    max_sessions: Optional[int],
    drain: float,
) -> Tuple[int, bool]:
    worker = Worker(module_class, bridges, max_sessions, drain)
    finished = await worker.run()
    return worker.code, finished


def is_asked_for(arguments: List[str]) -> bool:
    """Whether a command line asks to dial a bridge."""
    return any(word == "--connect" or word.startswith("--connect=") for word in arguments)


def run_connected(module_class: Type[Module], arguments: List[str]) -> NoReturn:
    """Dials as the command line says."""
    parser = argparse.ArgumentParser(description="Dials Ringback bridges and waits there for calls.")
    parser.add_argument(
        "--connect",
        metavar="URL",
        action="append",
        required=True,
        help="where modules dial in: wss://bridge.example/modules/NAME; may be given several times",
    )
    parser.add_argument("--max-sessions", type=int, help="calls at a time, if not as the class says")
    parser.add_argument("--token-file", help=f"file with the bearer token; else {TOKEN_VARIABLE}")
    parser.add_argument("--ca-file", help="authorities to trust, in the place of the system's")
    parser.add_argument(
        "--drain-seconds", type=float, default=DRAIN_SECONDS, help="seconds for calls to end after SIGTERM"
    )
    options = parser.parse_args(arguments)
    try:
        connect(
            module_class,
            options.connect,
            token_of(options.token_file),
            options.max_sessions,
            options.ca_file,
            options.drain_seconds,
        )
    except (OSError, ValueError) as error:
        parser.exit(EXIT_USAGE, f"ringback: {error}\n")
