"""Signs tokens that an edge with the same settings accepts: for development and for the canary."""

import time

import jwt

from contracts.errors import WarrenError
from infra.settings import EdgeSettings


class NoSecret(WarrenError):
    """Raised when no secret is set to sign a token with."""


def make_token(settings: EdgeSettings, user_id: str, *, name: str | None = None, ttl: int) -> str:
    """Sign a token with every claim that the settings require; it expires after `ttl` seconds. Raises NoSecret."""
    if settings.jwt_secret is None:
        raise NoSecret("WARREN_JWT_SECRET must be set to make a token: a public key cannot sign one.")
    claims = {"sub": user_id, "name": name or user_id, "exp": int(time.time()) + ttl}
    claims |= {"iss": settings.jwt_issuer} if settings.jwt_issuer else {}
    claims |= {"aud": settings.jwt_audience} if settings.jwt_audience else {}
    claims |= {settings.jwt_verified_claim: True} if settings.jwt_verified_claim else {}
    return jwt.encode(claims, settings.jwt_secret.get_secret_value(), algorithm="HS256")
