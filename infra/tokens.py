"""Tokens as an edge with the same settings accepts them; for people in development, and for the canary."""

import time

import jwt

from contracts.errors import WarrenError
from infra.settings import EdgeSettings


class NoSecret(WarrenError):
    """Raised when a token is to be made and there is no secret to sign it with."""


def make_token(settings: EdgeSettings, user_id: str, *, name: str | None = None, ttl: int) -> str:
    """Sign a token that lives `ttl` seconds, with every claim that the settings demand. Raises NoSecret."""
    if settings.jwt_secret is None:
        raise NoSecret("A token can be made only where WARREN_JWT_SECRET is set: a public key signs nothing.")
    claims = {"sub": user_id, "name": name or user_id, "exp": int(time.time()) + ttl}
    claims |= {"iss": settings.jwt_issuer} if settings.jwt_issuer else {}
    claims |= {"aud": settings.jwt_audience} if settings.jwt_audience else {}
    claims |= {settings.jwt_verified_claim: True} if settings.jwt_verified_claim else {}
    return jwt.encode(claims, settings.jwt_secret.get_secret_value(), algorithm="HS256")
