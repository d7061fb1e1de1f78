"""Tokens and keys for tests of authentication, among them tokens that no library would make."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

#: A time that does not come while tests run. As a constant, it gives a test the same name in every run.
YEAR_2100 = 4_102_444_800

Json = Any
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def pem(key: PrivateKey) -> str:
    """A public key as the setting takes it."""
    encoded = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return encoded.decode()


def claims(user_id: Json, **more: Json) -> dict[str, Json]:
    """Claims of a good token, with changes; None leaves a claim out."""
    payload = {"sub": user_id, "exp": int(time.time()) + 600, **more}
    return {name: value for name, value in payload.items() if value is not None}


def forge(header: Json, payload: Json, secret: bytes | None) -> str:
    """A token that no library would make: any header, signed with any bytes as an HMAC secret, or not at all."""

    def part(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    signed = part(json.dumps(header).encode()) + b"." + part(json.dumps(payload).encode())
    signature = b"" if secret is None else part(hmac.new(secret, signed, hashlib.sha256).digest())
    return (signed + b"." + signature).decode()
