"""Credentials as the vendors' own code makes and checks them. Knows no wire."""

import base64
import datetime
import json
from types import SimpleNamespace

import http_message_signatures
import jwt
import plivo.utils.signature_v3
import twilio.request_validator
import vonage_jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm


def sign_twilio(token, url, algorithm):
    return twilio.request_validator.RequestValidator(token).compute_signature(url, {}, algorithm)


def verify_twilio(token, url, algorithm, signature):
    return sign_twilio(token, url, algorithm) == signature


def sign_plivo(token, url, nonce):
    signed = plivo.utils.signature_v3.construct_get_url(url, {}).decode()
    return plivo.utils.signature_v3.get_signature_v3(token, signed, nonce).decode()


def verify_plivo(token, url, nonce, signature):
    return plivo.utils.validate_v3_signature("GET", url, nonce, token, signature)


def sign_hs256(secret, claims):
    return jwt.encode(claims, secret, algorithm="HS256")


def verify_hs256(secret, token):
    return vonage_jwt.verify_signature(token, secret)


def sign_rs256(claims):
    """A token by a key that is made for it, and the key set that says so."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    token = jwt.encode(claims, key, algorithm="RS256", headers={"kid": "fresh"})
    public = json.loads(RSAAlgorithm.to_jwk(key.public_key()))
    return {"token": token, "keys": json.dumps({"keys": [public | {"kid": "fresh", "use": "sig"}]})}


def request(url, headers):
    return SimpleNamespace(method="GET", url=url, headers=dict(headers))


def keys(secret):
    key = base64.b64decode(secret)
    return SimpleNamespace(resolve_public_key=lambda _: key, resolve_private_key=lambda _: key)


def sign_genesys(secret, key_id, nonce, created, expires, url, headers, components):
    message = request(url, headers)
    signer = http_message_signatures.HTTPMessageSigner(
        signature_algorithm=http_message_signatures.algorithms.HMAC_SHA256, key_resolver=keys(secret)
    )
    when = [datetime.datetime.fromtimestamp(time, datetime.timezone.utc) for time in (created, expires)]
    signer.sign(
        message, key_id=key_id, created=when[0], expires=when[1], nonce=nonce, label="sig1", covered_component_ids=components
    )
    return [message.headers["Signature-Input"], message.headers["Signature"]]


def verify_genesys(secret, url, headers):
    verifier = http_message_signatures.HTTPMessageVerifier(
        signature_algorithm=http_message_signatures.algorithms.HMAC_SHA256, key_resolver=keys(secret)
    )
    try:
        return len(verifier.verify(request(url, headers), max_age=None)) == 1
    except http_message_signatures.InvalidSignature:
        return False


KINDS = {
    "twilio": (sign_twilio, verify_twilio, "twilio"),
    "plivo": (sign_plivo, verify_plivo, "plivo"),
    "hs256": (sign_hs256, verify_hs256, "vonage-jwt"),
    "rs256": (sign_rs256, None, "pyjwt"),
    "genesys": (sign_genesys, verify_genesys, "http-message-signatures"),
}
