"""The contract as octets: stdio frames and audio headers. Pure; opens and reads nothing.

A stdio stream is a sequence of frames, all numbers little-endian::

    0  u32 length of the body in octets
    4  u8  kind: 0 JSON (UTF-8), 1 audio
    5  u8  0
    6  u16 session slot: 0 the process itself (register, ping), 1.. one session each
    8  body

With the framing `hdr16` an audio body begins with 16 octets: u8 kind (1), u8 flags, u16 track, u32 epoch, u64 position in
samples.
"""

import json
import struct
from typing import Any, Dict, Iterator, Tuple, Union

JSON = 0
AUDIO = 1
MAX_BODY = 262_144
"""Largest body of a frame in octets."""

HEADER = struct.Struct("<IBBH")
AUDIO_HEADER = struct.Struct("<BBHIQ")

Message = Dict[str, Any]


class WireError(Exception):
    """What came in is not the contract; says where in the stream, what it was and what to do."""


def frame(kind: int, slot: int, body: bytes) -> bytes:
    """One stdio frame. Raises `ValueError` if the body is longer than `MAX_BODY`."""
    if len(body) > MAX_BODY:
        raise ValueError(f"message of {len(body)} octets; the contract allows {MAX_BODY}")
    return HEADER.pack(len(body), kind, 0, slot) + body


def dump(message: Message) -> bytes:
    """A message as JSON. Raises `TypeError` or `ValueError` for what JSON cannot say (NaN, objects)."""
    text = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def load(body: bytes) -> Message:
    """A JSON message back from its octets. Raises `WireError` for anything but an object with a `type`."""
    try:
        message = json.loads(body)
    except ValueError as error:
        raise WireError(f"not JSON ({error}): {_cut(body)}") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise WireError(f"JSON, but not an object with a `type`: {_cut(body)}")
    return message


class FrameReader:
    """Cuts a stream of octets into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._offset = 0

    @property
    def pending(self) -> int:
        """Octets of a frame that has begun and not ended."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[Tuple[int, int, bytes]]:
        """Takes the next octets; yields `(kind, slot, body)` of every frame they complete.

        Raises `WireError` on a header that no bridge writes, before the body is waited for.
        """
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            length, kind, zero, slot = HEADER.unpack_from(self._buffer)
            if length > MAX_BODY or kind not in (JSON, AUDIO) or zero != 0:
                raise WireError(
                    f"octet {self._offset}: no frame of the module contract begins with "
                    f"{_cut(self._buffer[: HEADER.size])}; "
                    "standard input must come from a Ringback bridge"
                )
            end = HEADER.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[HEADER.size : end])
            del self._buffer[:end]
            self._offset += end
            yield kind, slot, body


def pack_audio(track: int, epoch: int, pts: int, samples: bytes, flags: int = 0) -> bytes:
    """The body of an audio frame with the header of `hdr16`."""
    return AUDIO_HEADER.pack(1, flags, track, epoch, pts) + samples


def unpack_audio(body: bytes) -> Tuple[int, int, int, int, bytes]:
    """`(flags, track, epoch, pts, samples)` of an `hdr16` body. Raises `WireError` if it is none."""
    if len(body) < AUDIO_HEADER.size or body[0] != 1:
        raise WireError(f"audio without the 16-octet header this module asked for: {_cut(body)}")
    _, flags, track, epoch, pts = AUDIO_HEADER.unpack_from(body)
    return flags, track, epoch, pts, body[AUDIO_HEADER.size :]


def _cut(octets: Union[bytes, bytearray]) -> str:
    shown = bytes(octets[:60])
    return repr(shown) + ("..." if len(octets) > len(shown) else "")
