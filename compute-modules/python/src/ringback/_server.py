"""The transport of a module that bridges dial: a WebSocket server, one session a connection. Loads no module itself."""

import argparse
import asyncio
import os
import signal
import sys
from typing import List, NoReturn, Optional, Set, Tuple, Type

from ._host import Host
from ._line import GOING_AWAY, STOP_SECONDS, SUBPROTOCOL, Connection, converse
from ._module import Module, name_of
from ._stdio import leave
from ._websocket import Refused, upgrade

HEAD_OCTETS = 16_384
HEAD_SECONDS = 5.0
"""Time for a whole request to come in."""
EXIT_OK, EXIT_USAGE, EXIT_UNAVAILABLE, EXIT_FAILED = 0, 64, 69, 70
TOKEN_VARIABLE = "RINGBACK_TOKEN"


class Server:
    """Answers bridges with sessions of one module class."""

    def __init__(
        self, module_class: Type[Module], token: Optional[str], max_sessions: Optional[int]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._token = token
        self._connections: Set[Connection] = set()
        self._stop = asyncio.Event()
        self.code = EXIT_OK
        self.host = Host(module_class, None, self._failed, max_sessions)

    async def run(self, host: str, port: int, opened: str) -> bool:
        """Serves until a signal or a failure; whether all handlers returned in time. Prints `opened` and the URL once it listens."""
        server = await asyncio.start_server(self._connected, host or None, port, limit=HEAD_OCTETS)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        self.host.start()
        name, bound = server.sockets[0].getsockname()[:2]
        print(f"{opened} ws://{f'[{name}]' if ':' in name else name}:{bound}/", flush=True)
        await self._stop.wait()
        server.close()
        # Bridges dial again, somewhere else perhaps, and tell what was not acknowledged once more.
        for connection in self._connections:
            connection.part(GOING_AWAY, "the module's server ends")
        await asyncio.gather(*(connection.end() for connection in self._connections))
        return await self._loop.run_in_executor(None, self.host.close, STOP_SECONDS)

    def _failed(self) -> None:
        """The module cannot be loaded; called on another thread."""
        self.code = EXIT_FAILED
        self._loop.call_soon_threadsafe(self._stop.set)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if await self._welcome(reader, writer):
                await self._serve(reader, writer)
        except OSError:
            pass  # It is gone; its session was told.
        finally:
            writer.close()

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether it is a bridge that may come in."""
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_SECONDS)
            answer, refused = upgrade(head, SUBPROTOCOL, self._token), None
        except Refused as no:
            answer, refused = no.response(), no
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.TimeoutError):
            return False
        writer.write(answer)
        await writer.drain()
        if refused is not None:
            peer = writer.get_extra_info("peername")
            print(f"ringback: {peer} was refused: {refused}", file=sys.stderr, flush=True)
        return refused is None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(writer)
        self._connections.add(connection)
        try:
            await converse(self.host, reader, connection)
        finally:
            self._connections.discard(connection)


def serve(
    module_class: Type[Module],
    address: str,
    token: Optional[str] = None,
    max_sessions: Optional[int] = None,
    insecure: bool = False,
) -> NoReturn:
    """Serves bridges that dial `address` (`127.0.0.1:9000`; port 0 takes a free one) until SIGTERM or Ctrl-C, then exits.

    Prints the URL once it listens. Whoever connects must bring `token` as a bearer token; without one, only this machine is
    served unless `insecure`. `max_sessions` is in the place of the class attribute. Call it from the main thread, last.

    Exit codes: 0 all done, 64 the address is none or needs a token, 69 it cannot be listened on, 70 the module could not be loaded.
    """
    host, port = _address(address)
    if token is None and not insecure and host not in ("127.0.0.1", "::1", "localhost"):
        sys.stderr.write(
            f"ringback: {address} can be reached by others: set {TOKEN_VARIABLE} to a bearer token, or say --insecure\n"
        )
        sys.exit(EXIT_USAGE)
    code, finished = asyncio.run(_serve(module_class, host, port, token, max_sessions))
    leave(code, finished)


async def _serve(
    module_class: Type[Module],
    host: str,
    port: int,
    token: Optional[str],
    max_sessions: Optional[int],
) -> Tuple[int, bool]:
    server = Server(module_class, token, max_sessions)
    limit = server.host.max_sessions
    calls = "1 call at a time (max_sessions)" if limit == 1 else f"{limit} calls at a time"
    try:
        finished = await server.run(host, port, f"{name_of(module_class)}, {calls}:")
    except OSError as error:
        print(f"ringback: cannot listen on {host}:{port}: {error}", file=sys.stderr)
        return EXIT_UNAVAILABLE, True
    return server.code, finished


def is_asked_for(arguments: List[str]) -> bool:
    """Whether a command line asks to serve."""
    return any(word == "--serve" or word.startswith("--serve=") for word in arguments)


def run_served(module_class: Type[Module], arguments: List[str]) -> NoReturn:
    """Serves as the command line says."""
    parser = argparse.ArgumentParser(description="Serves a compute module to bridges that dial it.")
    parser.add_argument("--serve", metavar="HOST:PORT", required=True, help="where to listen")
    parser.add_argument("--max-sessions", type=int, help="calls at a time, if not as the class says")
    parser.add_argument("--token-file", help=f"file with the bearer token; else {TOKEN_VARIABLE}")
    parser.add_argument("--insecure", action="store_true", help="serve others without a token")
    options = parser.parse_args(arguments)
    try:
        token = token_of(options.token_file)
        serve(module_class, options.serve, token, options.max_sessions, options.insecure)
    except (OSError, ValueError) as error:
        parser.exit(EXIT_USAGE, f"ringback: {error}\n")


def token_of(file_name: Optional[str]) -> Optional[str]:
    """The bearer token in a file, or else in the environment, if it is anywhere."""
    token = os.environ.get(TOKEN_VARIABLE)
    if file_name:
        with open(file_name, encoding="utf-8") as file:
            token = file.read().strip()
    if token == "":
        raise ValueError("the token is empty")
    return token


def _address(text: str) -> Tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise ValueError(f"{text!r} is no address; write it as 127.0.0.1:9000")
    return host.strip("[]"), int(port)
