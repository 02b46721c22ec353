"""One connection to a bridge as a WebSocket, whoever of the two opened it, and the session on it. Opens none itself."""

import asyncio
import sys
from typing import AsyncIterator, Tuple

from ._host import Host
from ._outbox import Outbox
from ._websocket import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Reader,
    Violation,
    close_code,
    close_frame,
    frame,
)
from ._wire import AUDIO, JSON, MAX_BODY, WireError

SUBPROTOCOL = "ringback.v1"
BREACH = 4002
"""Close code for what is not the contract."""
LATE = 4008
"""Close code for a deadline that passed."""
NORMAL, GOING_AWAY = 1000, 1001
SILENT_SECONDS = 15.0
"""A bridge pings at least every 5 s; one that is silent for so long is gone."""
LINGER_SECONDS = 1.0
"""Time for the last words to go out."""
STOP_SECONDS = 1.5
"""Time for all handlers to return when the process has to end."""
READ_OCTETS = 65_536


class Connection:
    """The way to one bridge, for one session. `send` may be called from any thread, everything else from the loop it was made in.

    `masks` says that this is the client's end.
    """

    def __init__(self, writer: asyncio.StreamWriter, masks: bool = False) -> None:
        self._loop = asyncio.get_running_loop()
        self._writer = writer
        self.masks = masks
        self._closed = False
        # Before Python 3.11 only one may wait for a writer at a time.
        self._turn = asyncio.Lock()
        self._outbox = Outbox(self._write, lambda: None)

    def send(self, slot: int, kind: int, body: bytes, urgent: bool = False) -> None:
        """Queues one message; to a bridge that is gone, nothing."""
        if not self._closed:
            self._outbox.put(frame(TEXT if kind == JSON else BINARY, body, self.masks), urgent)

    async def drained(self) -> None:
        """Returns when there is room again."""
        await self._outbox.drained()

    def control(self, octets: bytes) -> None:
        """Writes a control frame, ahead of what is queued."""
        if not self._closed:
            self._writer.write(octets)

    async def pong(self, payload: bytes) -> None:
        """Answers a ping. Whoever reads no answer waits here, or its pings would pile up as answers."""
        self.control(frame(PONG, payload, self.masks))
        await asyncio.wait_for(self._drain(), SILENT_SECONDS)

    def part(self, code: int, reason: str = "") -> None:
        """Says goodbye; nothing is said after it, and nothing of what was queued."""
        self.control(close_frame(code, reason, self.masks))
        self._closed = True
        self._outbox.close(0)

    async def end(self) -> None:
        """Lets go of the connection once the goodbye is out."""
        self._writer.close()
        try:
            await asyncio.wait_for(self._writer.wait_closed(), LINGER_SECONDS)
        except (OSError, asyncio.TimeoutError):
            self._writer.transport.abort()

    def _write(self, data: bytes) -> None:
        """For the outbox, on its thread: returns when the system has taken most of it."""
        sending = asyncio.run_coroutine_threadsafe(self._send(data), self._loop)
        try:
            sending.result()
        except Exception as error:
            raise OSError("the connection is gone") from error

    async def _send(self, data: bytes) -> None:
        if self._closed:
            raise ConnectionResetError
        self._writer.write(data)
        await self._drain()

    async def _drain(self) -> None:
        async with self._turn:
            await self._writer.drain()


class Closed(Exception):
    """The bridge closed, with this code, or the connection is cut."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"{code} {reason}".rstrip())
        self.code = code


async def heard(
    reader: asyncio.StreamReader, connection: Connection, silent_seconds: float = SILENT_SECONDS
) -> AsyncIterator[Tuple[int, bytes]]:
    """Messages as `(opcode, payload)` for as long as they come; pings are answered. Raises `Closed` at the end, `Violation` for
    what is no WebSocket, and `asyncio.TimeoutError` when nothing is heard, or no answer taken, for `silent_seconds`."""
    frames = Reader(MAX_BODY, of_server=connection.masks)
    while True:
        data = await asyncio.wait_for(reader.read(READ_OCTETS), silent_seconds)
        if not data:
            raise Closed(GOING_AWAY, "the connection was cut")
        for opcode, payload in frames.feed(data):
            if opcode in (TEXT, BINARY):
                yield opcode, payload
            elif opcode == PING:
                await connection.pong(payload)
            elif opcode == CLOSE:
                raise Closed(close_code(payload), payload[2:].decode("utf-8", "replace"))


async def converse(host: Host, reader: asyncio.StreamReader, connection: Connection) -> None:
    """Holds the session that the bridge begins on a connection, to its end."""
    slot = host.attach(connection)
    code, reason = GOING_AWAY, ""
    try:
        async for opcode, payload in heard(reader, connection):
            host.receive(JSON if opcode == TEXT else AUDIO, slot, payload)
    except Closed as closed:
        code = closed.code
    except Violation as error:
        code, reason = error.code, str(error)
    except WireError as error:
        code, reason = BREACH, str(error)
    except asyncio.TimeoutError:
        code, reason = LATE, f"nothing was heard, or no answer taken, for {SILENT_SECONDS:.0f} s"
    finally:
        if reason:
            print(f"ringback: closed with {code}: {reason}", file=sys.stderr, flush=True)
        # Before the session ends, or its `done` would tell the bridge that all is said.
        connection.part(code, reason)
        host.detach(slot, STOP_SECONDS)
    await connection.end()
