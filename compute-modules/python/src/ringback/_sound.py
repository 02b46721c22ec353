"""Sound for tests: WAV files in, samples at any rate and encoding out. Plain Python, so slow; not for live calls."""

import array
import math
import struct
import sys
from operator import mul
from typing import Dict, List, Tuple

Samples = List[int]

_PCM, _FLOAT, _ALAW, _MULAW = 1, 3, 6, 7


def read_wav(path: str) -> Tuple[int, Samples]:
    """Rate and 16-bit samples of a WAV file: 16-bit, mu-law or A-law; of several channels the first.

    Raises `ValueError` that says what the file is, if it is something else.
    """
    with open(path, "rb") as file:
        data = file.read()
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise ValueError(f"{path}: no WAV file")
    chunks: Dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        chunks.setdefault(name, data[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    if len(chunks.get(b"fmt ", b"")) < 16 or b"data" not in chunks:
        raise ValueError(f"{path}: a WAV file without format or data")
    form, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunks[b"fmt "])
    sound = chunks[b"data"]
    if form == 0xFFFE and len(chunks[b"fmt "]) >= 26:
        (form,) = struct.unpack_from("<H", chunks[b"fmt "], 24)
    if (form, bits) == (_PCM, 16):
        samples = _from_s16le(sound)
    elif (form, bits) == (_MULAW, 8):
        samples = [_ULAW[octet] for octet in sound]
    elif (form, bits) == (_ALAW, 8):
        samples = [_ALAW_TABLE[octet] for octet in sound]
    else:
        raise ValueError(f"{path}: WAV format {form} with {bits} bits; use 16-bit, mu-law or A-law")
    return rate, samples[::channels]


def write_wav(path: str, rate: int, samples: Samples) -> None:
    """A mono 16-bit WAV file."""
    sound = encode(samples, "pcm_s16le")
    head = struct.pack("<HHIIHH", _PCM, 1, rate, rate * 2, 2, 16)
    with open(path, "wb") as file:
        file.write(b"RIFF" + struct.pack("<I", 36 + len(sound)) + b"WAVE")
        file.write(b"fmt " + struct.pack("<I", 16) + head)
        file.write(b"data" + struct.pack("<I", len(sound)) + sound)


def encode(samples: Samples, encoding: str) -> bytes:
    """Samples as octets in an encoding of the contract."""
    if encoding == "pcmu":
        return bytes(map(_to_ulaw, samples))
    if encoding == "pcma":
        return bytes(map(_to_alaw, samples))
    if encoding == "pcm_f32le":
        return struct.pack(f"<{len(samples)}f", *(sample / 32768 for sample in samples))
    return struct.pack(f"<{len(samples)}h", *samples)


def decode(octets: bytes, encoding: str) -> Samples:
    """Samples back from octets in an encoding of the contract."""
    if encoding == "pcmu":
        return [_ULAW[octet] for octet in octets]
    if encoding == "pcma":
        return [_ALAW_TABLE[octet] for octet in octets]
    if encoding == "pcm_f32le":
        floats = struct.unpack(f"<{len(octets) // 4}f", octets)
        return [_clip(round(value * 32768)) for value in floats]
    return _from_s16le(octets)


def resample(samples: Samples, rate: int, to_rate: int) -> Samples:
    """Samples at another rate, through a windowed-sinc low-pass of 16 zero crossings a side."""
    if rate == to_rate or not samples:
        return samples
    common = math.gcd(rate, to_rate)
    up, down = to_rate // common, rate // common
    cutoff = min(1.0, up / down)
    reach = math.ceil(16 / cutoff)
    phases = [_taps(phase / up, reach, cutoff) for phase in range(up)]
    padded = [0] * reach + samples + [0] * (reach + 1)
    out = []
    for index in range(len(samples) * up // down):
        at, phase = divmod(index * down, up)
        taps = phases[phase]
        out.append(_clip(round(sum(map(mul, taps, padded[at + 1 : at + 1 + len(taps)])))))
    return out


def _taps(offset: float, reach: int, cutoff: float) -> List[float]:
    """Weights of the samples from `reach - 1` before to `reach` after, for a point `offset` after a sample."""
    taps = []
    for k in range(1 - reach, reach + 1):
        x = k - offset
        window = 0.5 + 0.5 * math.cos(math.pi * x / (reach + 1))
        sinc = 1.0 if x == 0 else math.sin(math.pi * x * cutoff) / (math.pi * x * cutoff)
        taps.append(cutoff * sinc * window)
    return taps


def _from_s16le(octets: bytes) -> Samples:
    samples = array.array("h", octets[: len(octets) // 2 * 2])
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tolist()


def _clip(value: int) -> int:
    return max(-32768, min(32767, value))


def _ulaw_sample(octet: int) -> int:
    """G.711 table 2a."""
    octet = ~octet & 0xFF
    magnitude = (((octet & 0x0F) << 3) + 0x84 << (octet >> 4 & 7)) - 0x84
    return -magnitude if octet & 0x80 else magnitude


def _alaw_sample(octet: int) -> int:
    """G.711 table 1a."""
    octet ^= 0x55
    exponent, mantissa = octet >> 4 & 7, octet & 0x0F
    magnitude = (mantissa << 4) + 8 if exponent == 0 else (mantissa << 4) + 0x108 << exponent - 1
    return magnitude if octet & 0x80 else -magnitude


_ULAW = [_ulaw_sample(octet) for octet in range(256)]
_ALAW_TABLE = [_alaw_sample(octet) for octet in range(256)]


def _to_ulaw(sample: int) -> int:
    sign = 0x80 if sample < 0 else 0
    magnitude = min(abs(sample), 32635) + 0x84
    exponent = magnitude.bit_length() - 8
    return ~(sign | exponent << 4 | (magnitude >> exponent + 3 & 0x0F)) & 0xFF


def _to_alaw(sample: int) -> int:
    sign = 0x80 if sample >= 0 else 0
    magnitude = min(sample if sample >= 0 else ~sample, 32767)
    exponent = max(0, magnitude.bit_length() - 8)
    mantissa = magnitude >> (4 if exponent == 0 else exponent + 3) & 0x0F
    return (sign | exponent << 4 | mantissa) ^ 0x55
