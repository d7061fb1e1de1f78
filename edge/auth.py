"""Verifies JWTs locally: no request to an identity provider is needed for a connection.

A key set (JWKS) is fetched at start and refreshed in the background; see `edge/keys.py`.
"""

from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import TypeAdapter, ValidationError

from contracts.errors import Code, Refused
from contracts.text import shown_text
from contracts.values import MAX_NAME, MAX_PICTURE, UserId
from edge.keys import Key, KeySet, algorithm_of
from infra.settings import EdgeSettings, SettingsError

#: Characters of a token.
MAX_TOKEN = 16_384
#: A later expiry, such as one in milliseconds, counts as this one: the end of the year 9999, the last that is a date.
MAX_EXPIRY = 253_402_300_799.0

_user_id: TypeAdapter[str] = TypeAdapter(UserId)


@dataclass(frozen=True, slots=True)
class Identity:
    """The user that a token identifies; `expires_at` is in seconds since the epoch."""

    user_id: str
    name: str
    picture: str | None
    expires_at: float


class TokenVerifier:
    """Verifies tokens with the secret, the public key or the key set of the settings."""

    def __init__(self, settings: EdgeSettings) -> None:
        self._settings = settings
        self._key_set = KeySet(settings.jwt_jwks_url) if settings.jwt_jwks_url is not None else None
        self._own_key: Key | None = None
        if settings.jwt_secret is not None:
            self._own_key = (settings.jwt_secret.get_secret_value(), "HS256")
        elif settings.jwt_public_key is not None:
            self._own_key = _public_key(settings.jwt_public_key)

    def verify(self, token: object) -> Identity:
        """The identity in a token. Raises Refused with `unauthorized`, `token_expired`, `not_verified`, or with
        `unavailable` for a key that is not known while the key set cannot be fetched."""
        if not isinstance(token, str) or not 0 < len(token) <= MAX_TOKEN:
            raise Refused(Code.UNAUTHORIZED, "A token is needed.")
        settings = self._settings
        try:
            key, algorithm = self._key(token)
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=settings.jwt_issuer,
                audience=settings.jwt_audience,
                leeway=settings.jwt_leeway,
                options={"require": ["exp", "sub"], "verify_aud": settings.jwt_audience is not None},
            )
            user_id = _user_id.validate_python(claims["sub"])
            expires_at = min(float(claims["exp"]), MAX_EXPIRY)
        except jwt.ExpiredSignatureError:
            raise Refused(Code.TOKEN_EXPIRED, "The token has expired.") from None
        except (jwt.PyJWTError, ValidationError, ValueError, OverflowError, TypeError):
            raise Refused(Code.UNAUTHORIZED, "The token is not valid.") from None
        if settings.jwt_verified_claim is not None and claims.get(settings.jwt_verified_claim) is not True:
            raise Refused(Code.NOT_VERIFIED, "This account is not verified yet.")
        return Identity(user_id, _name(claims, user_id), _picture(claims), expires_at)

    def _key(self, token: str) -> Key:
        if self._key_set is None:
            assert self._own_key is not None
            return self._own_key
        key_id = jwt.get_unverified_header(token).get("kid")
        if key_id not in self._key_set.keys:
            if not self._key_set.is_current:
                raise Refused(Code.UNAVAILABLE, "The key of this token cannot be fetched now.", retry_after_ms=1_000)
            raise jwt.InvalidKeyError("unknown key id")
        return self._key_set.keys[key_id]

    def has_key_for(self, token: object) -> bool:
        """Whether the key that the token names is known. False only with a key set; then wait for the key."""
        if self._key_set is None or not isinstance(token, str) or len(token) > MAX_TOKEN:
            return True
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
        except jwt.PyJWTError:
            return True
        return key_id in self._key_set.keys

    async def wait_for_key(self, token: object) -> None:
        """Wait a bounded time for the key that the token names, if it is not known: keys may have been rotated."""
        if self._key_set is not None and not self.has_key_for(token):
            await self._key_set.wait_for_unknown_key()

    async def run(self) -> None:
        """Refresh the key set until cancelled. Returns at once when the settings have no key set."""
        if self._key_set is not None:
            await self._key_set.run()

    @property
    def ready(self) -> bool:
        """Whether there is a key to verify tokens with."""
        return self._key_set is None or bool(self._key_set.keys)


def _public_key(pem: str) -> Key:
    try:
        key = load_pem_public_key(pem.encode())
        return key, algorithm_of(key)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"WARREN_JWT_PUBLIC_KEY: is no public key (PEM) that can be used: {error}") from None


def _name(claims: dict[str, Any], user_id: str) -> str:
    name = claims.get("name")
    return (shown_text(name)[:MAX_NAME].rstrip() if isinstance(name, str) else "") or user_id


def _picture(claims: dict[str, Any]) -> str | None:
    picture = claims.get("picture")
    if not isinstance(picture, str) or not picture.startswith(("https://", "http://")):
        return None
    return picture if picture == shown_text(picture) and len(picture.encode()) <= MAX_PICTURE else None
