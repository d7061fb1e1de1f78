"""Verifies JWTs locally: no request to an identity provider is needed for a connection.

A key set (JWKS) is fetched at start and refreshed in the background.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import TypeAdapter, ValidationError

from contracts.errors import Code, Refused
from contracts.text import shown_text
from contracts.values import MAX_NAME, MAX_PICTURE, UserId
from infra.settings import EdgeSettings, SettingsError

log = logging.getLogger(__name__)

#: Seconds between two fetches of a key set, and the shortest time between two fetches for an unknown key id.
KEYS_REFRESH = 300.0
KEYS_REFRESH_UNKNOWN = 30.0
#: Seconds until the first fetch is repeated when it fails.
KEYS_RETRY = 1.0
#: Characters of a token.
MAX_TOKEN = 16_384

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
        self._keys: dict[str | None, tuple[Any, str]] = {}
        self._fetched_at = 0.0
        if settings.jwt_secret is not None:
            self._keys[None] = (settings.jwt_secret.get_secret_value(), "HS256")
        elif settings.jwt_public_key is not None:
            self._keys[None] = _public_key(settings.jwt_public_key)

    def verify(self, token: object) -> Identity:
        """The identity in a token. Raises Refused with `unauthorized`, `token_expired` or `not_verified`."""
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
            expires_at = float(claims["exp"])
        except jwt.ExpiredSignatureError:
            raise Refused(Code.TOKEN_EXPIRED, "The token has expired.") from None
        except (jwt.PyJWTError, ValidationError, ValueError, OverflowError, TypeError):
            raise Refused(Code.UNAUTHORIZED, "The token is not valid.") from None
        if settings.jwt_verified_claim is not None and claims.get(settings.jwt_verified_claim) is not True:
            raise Refused(Code.NOT_VERIFIED, "This account is not verified yet.")
        return Identity(user_id, _name(claims, user_id), _picture(claims), expires_at)

    def _key(self, token: str) -> tuple[Any, str]:
        if self._settings.jwt_jwks_url is None:
            return self._keys[None]
        key_id = jwt.get_unverified_header(token).get("kid")
        if key_id not in self._keys:
            raise jwt.InvalidKeyError("unknown key id")
        return self._keys[key_id]

    def has_key_for(self, token: object) -> bool:
        """Whether the key that the token names is known. False only with a key set; then fetch the keys and verify."""
        if self._settings.jwt_jwks_url is None or not isinstance(token, str) or len(token) > MAX_TOKEN:
            return True
        try:
            return jwt.get_unverified_header(token).get("kid") in self._keys
        except jwt.PyJWTError:
            return True

    # --- Key sets -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Refresh the key set until cancelled. Returns at once when the settings have no key set."""
        if self._settings.jwt_jwks_url is None:
            return
        while True:
            await self.fetch_keys(min_interval=0)
            await asyncio.sleep(KEYS_REFRESH if self._keys else KEYS_RETRY)

    async def fetch_keys(self, *, min_interval: float = KEYS_REFRESH_UNKNOWN) -> None:
        """Fetch the key set, unless the last fetch is less than `min_interval` seconds ago.

        Keeps the current keys when the fetch fails.
        """
        url = self._settings.jwt_jwks_url
        if url is None or time.monotonic() - self._fetched_at < min_interval:
            return
        self._fetched_at = time.monotonic()
        try:
            async with httpx.AsyncClient(timeout=5) as client:
                answer = await client.get(url)
            answer.raise_for_status()
            keys = jwt.PyJWKSet.from_dict(answer.json()).keys
        except (httpx.HTTPError, ValueError, jwt.PyJWTError) as error:
            log.warning("The key set cannot be fetched; the edge keeps %d keys: %s", len(self._keys), error)
            return
        # The kind of key decides on the algorithm. The token's header does not: a forger would choose a weaker one.
        self._keys = {key.key_id: (key.key, _algorithm(key.key)) for key in keys if _algorithm(key.key)}
        log.info("Fetched a key set of %d keys.", len(self._keys))

    @property
    def ready(self) -> bool:
        """Whether there is a key to verify tokens with."""
        return bool(self._keys)


def _algorithm(key: object) -> str:
    if isinstance(key, RSAPublicKey):
        return "RS256"
    return "ES256" if isinstance(key, EllipticCurvePublicKey) and key.curve.name == "secp256r1" else ""


def _public_key(pem: str) -> tuple[Any, str]:
    try:
        key = load_pem_public_key(pem.encode())
    except ValueError as error:
        raise SettingsError(f"WARREN_JWT_PUBLIC_KEY: is not a PEM public key ({error})") from None
    if not _algorithm(key):
        raise SettingsError("WARREN_JWT_PUBLIC_KEY: must be an RSA key (RS256) or a P-256 key (ES256)")
    return key, _algorithm(key)


def _name(claims: dict[str, Any], user_id: str) -> str:
    name = claims.get("name")
    return (shown_text(name)[:MAX_NAME].rstrip() if isinstance(name, str) else "") or user_id


def _picture(claims: dict[str, Any]) -> str | None:
    picture = claims.get("picture")
    if not isinstance(picture, str) or not picture.startswith(("https://", "http://")):
        return None
    return picture if picture == shown_text(picture) and len(picture.encode()) <= MAX_PICTURE else None
