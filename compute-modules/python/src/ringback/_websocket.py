"""RFC 6455 as both ends speak it: upgrade, frames, messages. Pure; opens and reads nothing, and knows no contract."""

import base64
import binascii
import hashlib
import hmac
import os
import struct
from typing import Dict, Iterator, Optional, Tuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MAX_CONTROL = 125
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Refused(Exception):
    """No upgrade: an HTTP status and what a person should know."""

    def __init__(self, status: str, reason: str, field: str = "") -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason
        self.field = field

    def response(self) -> bytes:
        """What to answer."""
        body = self.reason.encode()
        head = (
            f"HTTP/1.1 {self.status}\r\n{self.field}Connection: close\r\n"
            f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


class Declined(Exception):
    """The server did not upgrade: its HTTP status, 0 if what it said is no answer, and what it said."""

    def __init__(self, status: int, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(f"{status} {reason}" if status else reason)
        self.status = status
        self.retry_after = retry_after


class Violation(Exception):
    """The far end broke the protocol; the connection is to be closed with `code`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def upgrade(head: bytes, subprotocol: str, token: Optional[str]) -> bytes:
    """The answer to the head of a request that asks for `subprotocol` and has `token`. Raises `Refused`."""
    request, fields = _head(head)
    method, _, rest = request.partition(" ")
    if method != "GET" or not rest.endswith(" HTTP/1.1"):
        raise Refused("400 Bad Request", "a WebSocket begins with GET and HTTP/1.1")
    if "websocket" not in _words(fields, "upgrade") or "upgrade" not in _words(
        fields, "connection"
    ):
        what = f"here is a compute module; a Ringback bridge dials it as a WebSocket with {subprotocol}"
        raise Refused("426 Upgrade Required", what, "Upgrade: websocket\r\n")
    if fields.get("sec-websocket-version") != "13":
        field = "Sec-WebSocket-Version: 13\r\n"
        raise Refused("426 Upgrade Required", "version 13 of WebSocket is spoken here", field)
    if "origin" in fields:
        # Only a page in a browser sends it, and pages of others could reach a module on this machine.
        raise Refused("403 Forbidden", "modules are dialled by bridges, not from browsers")
    if token is not None and not _has_token(fields.get("authorization", ""), token):
        field = "WWW-Authenticate: Bearer\r\n"
        raise Refused("401 Unauthorized", "the bearer token is missing or wrong", field)
    if subprotocol not in _words(fields, "sec-websocket-protocol", lower=False):
        raise Refused("400 Bad Request", f"the subprotocol {subprotocol} is not offered")
    key = fields.get("sec-websocket-key", "")
    if not _is_key(key):
        raise Refused("400 Bad Request", "Sec-WebSocket-Key is missing or not 16 octets in base64")
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(key)}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    ).encode()


def accept_key(key: str) -> str:
    """What proves that the request was understood."""
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


def request(host: str, target: str, subprotocol: str, bearer: Optional[str]) -> Tuple[bytes, str]:
    """What a client asks with, and the key that the answer must fit."""
    key = base64.b64encode(os.urandom(16)).decode()
    authorization = "" if bearer is None else f"Authorization: Bearer {bearer}\r\n"
    text = (
        f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{authorization}"
        f"Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    )
    return text.encode("latin-1"), key


def agree(head: bytes, key: str, subprotocol: str) -> None:
    """Checks the head of the answer to a request. Raises `Declined` if there is no WebSocket with `subprotocol`."""
    first, fields = _head(head)
    version, _, rest = first.partition(" ")
    status = rest[:3]
    if not version.startswith("HTTP/1.") or not status.isdecimal():
        raise Declined(0, "the answer is not HTTP; is there a bridge at this address?")
    if status != "101":
        retry_after = fields.get("retry-after", "")
        seconds = float(retry_after) if retry_after.isdecimal() else 0.0
        raise Declined(int(status), rest[4:], seconds)
    if "websocket" not in _words(fields, "upgrade"):
        raise Declined(0, "the answer upgrades to something else than a WebSocket")
    if fields.get("sec-websocket-accept") != accept_key(key):
        raise Declined(0, "the answer does not fit the key of the request")
    if fields.get("sec-websocket-protocol") != subprotocol or "sec-websocket-extensions" in fields:
        raise Declined(0, f"the answer does not agree on {subprotocol} and nothing else")


def body_length(head: bytes) -> int:
    """Octets that follow the head of an answer, as far as it says."""
    length = _head(head)[1].get("content-length", "")
    return int(length) if length.isdecimal() else 0


def frame(opcode: int, payload: bytes, masks: bool = False) -> bytes:
    """One whole message: of a server, which masks nothing, or of a client, which `masks` all."""
    length, bit = len(payload), 0x80 if masks else 0
    if length <= MAX_CONTROL:
        head = struct.pack("!BB", 0x80 | opcode, bit | length)
    elif length < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, bit | 126, length)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, bit | 127, length)
    if not masks:
        return head + payload
    mask = os.urandom(4)
    return head + mask + _masked(payload, mask)


def close_frame(code: int, reason: str = "", masks: bool = False) -> bytes:
    """A close frame; of `reason`, what fits is sent."""
    text = reason.encode()[: MAX_CONTROL - 2].decode("utf-8", "ignore").encode()
    return frame(CLOSE, struct.pack("!H", code) + text, masks)


class Reader:
    """Cuts what a client sends, or with `of_server` a server, into messages and control frames."""

    def __init__(self, max_message: int, of_server: bool = False) -> None:
        self._max = max_message
        self._masked = not of_server
        self._buffer = bytearray()
        self._opcode: Optional[int] = None
        self._message = bytearray()

    def feed(self, data: bytes) -> Iterator[Tuple[int, bytes]]:
        """Takes the next octets; yields `(opcode, payload)` of all that they complete. Raises `Violation`."""
        self._buffer += data
        while True:
            head = self._head()
            if head is None:
                return
            first, size, length = head
            begin = size + (4 if self._masked else 0)
            end = begin + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[begin:end])
            if self._masked:
                payload = _masked(payload, bytes(self._buffer[size:begin]))
            del self._buffer[:end]
            whole = self._frame(first & 0x0F, bool(first & 0x80), payload)
            if whole is not None:
                yield whole

    def _head(self) -> Optional[Tuple[int, int, int]]:
        """First octet of the next frame, octets in front of its mask or payload, octets of its payload."""
        if len(self._buffer) < 2:
            return None
        first, second = self._buffer[0], self._buffer[1]
        length, size = second & 0x7F, 2
        if first & 0x70:
            raise Violation(1002, "a reserved bit is set, and no extension was agreed on")
        if self._masked != bool(second & 0x80):
            raise Violation(1002, "frames of a client are masked, and those of a server are not")
        if first & 0x08 and (length > MAX_CONTROL or not first & 0x80):
            raise Violation(1002, "a control frame is in pieces or too long")
        if length >= 126:
            layout = "!H" if length == 126 else "!Q"
            size += struct.calcsize(layout)
            if len(self._buffer) < size:
                return None
            (length,) = struct.unpack_from(layout, self._buffer, 2)
        if length + (0 if first & 0x08 else len(self._message)) > self._max:
            raise Violation(1009, f"a message is over the limit of {self._max} octets")
        return first, size, length

    def _frame(self, opcode: int, is_last: bool, payload: bytes) -> Optional[Tuple[int, bytes]]:
        if opcode in (CLOSE, PING, PONG):
            return opcode, payload
        if opcode not in (CONTINUATION, TEXT, BINARY):
            raise Violation(1002, f"opcode {opcode} is not known")
        if (opcode == CONTINUATION) != (self._opcode is not None):
            raise Violation(1002, "the pieces of a message are out of order")
        if self._opcode is None:
            self._opcode = opcode
        self._message += payload
        if not is_last:
            return None
        whole, message = self._opcode, bytes(self._message)
        self._opcode, self._message = None, bytearray()
        if whole == TEXT:
            try:
                message.decode()
            except UnicodeDecodeError:
                raise Violation(1007, "a text message is not UTF-8") from None
        return whole, message


def close_code(payload: bytes) -> int:
    """The code in a close frame; 1000 where there is none to answer with."""
    if len(payload) < 2:
        return 1000
    return int(struct.unpack_from("!H", payload)[0])


def _masked(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    # As one number: a loop over octets costs more than all the rest.
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return mixed.to_bytes(size, "big")


def _head(head: bytes) -> Tuple[str, Dict[str, str]]:
    """The first line of a request or an answer, and its fields by lower-case name."""
    first, *lines = head.decode("latin-1").split("\r\n")
    fields: Dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            name, value = name.strip().lower(), value.strip()
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return first, fields


def _words(fields: Dict[str, str], name: str, lower: bool = True) -> Tuple[str, ...]:
    words = fields.get(name, "")
    return tuple(word.strip() for word in (words.lower() if lower else words).split(","))


def _has_token(authorization: str, token: str) -> bool:
    scheme, _, given = authorization.partition(" ")
    is_same = hmac.compare_digest(given.strip().encode(), token.encode())
    return scheme.lower() == "bearer" and is_same


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
