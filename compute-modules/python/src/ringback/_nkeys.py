"""How a `.creds` file proves who we are to NATS: its JWT and a signature with its seed. Needs Ed25519, which Python alone has not."""

import base64
import binascii
import re
from typing import Callable, Dict

SECTION = re.compile(r"-{3,}BEGIN ([^-\n]+)-{3,}\s*\n\s*([A-Za-z0-9_\-.=]+)\s*\n-{3,}END [^-\n]+-{3,}")
SEED_OCTETS = 36
"""Two that say what it is, 32 of seed, two of checksum."""


class BadCredentials(ValueError):
    """The credentials cannot be used; says why, and nothing of them."""


class Credentials:
    """A user's JWT and key."""

    def __init__(self, text: str) -> None:
        found: Dict[str, str] = {what.strip(): value for what, value in SECTION.findall(text)}
        try:
            self.jwt = found["NATS USER JWT"]
            seed = found["USER NKEY SEED"]
        except KeyError as missing:
            raise BadCredentials(f"the credentials have no {missing.args[0]}") from None
        self._sign = signer(_seed(seed))

    def __repr__(self) -> str:
        return "Credentials([redacted])"

    def sign(self, nonce: str) -> str:
        """The signature of what the server said, as it wants it."""
        return base64.urlsafe_b64encode(self._sign(nonce.encode())).rstrip(b"=").decode()


def _seed(text: str) -> bytes:
    """The 32 octets within an encoded seed."""
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except binascii.Error:
        raise BadCredentials("the seed in the credentials is none") from None
    if len(raw) != SEED_OCTETS or not text.startswith("SU"):
        raise BadCredentials("the seed in the credentials is not that of a user")
    checksum = int.from_bytes(raw[-2:], "little")
    if binascii.crc_hqx(raw[:-2], 0) != checksum:
        raise BadCredentials("the seed in the credentials is damaged")
    return raw[2:-2]


def signer(seed: bytes) -> Callable[[bytes], bytes]:
    """Signs with Ed25519, by whichever package is here that can."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        pass
    else:
        key = Ed25519PrivateKey.from_private_bytes(seed)
        return lambda data: bytes(key.sign(data))
    try:
        from nacl.signing import SigningKey
    except ImportError:
        raise BadCredentials(
            "credentials files need Ed25519, which Python's standard library has not: pip install cryptography"
        ) from None
    nacl = SigningKey(seed)
    return lambda data: bytes(nacl.sign(data).signature)
