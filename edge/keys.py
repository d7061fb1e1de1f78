"""The key set (JWKS) that tokens are verified with: fetched at start, refreshed, and fetched for unknown key ids."""

import asyncio
import logging
import time
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from infra import metrics

log = logging.getLogger(__name__)

#: Seconds between two fetches, and between the starts of two fetches that unknown key ids cause.
KEYS_REFRESH = 300.0
KEYS_REFRESH_UNKNOWN = 3.0
#: Seconds until a failed fetch is repeated, at first and at most.
KEYS_RETRY, KEYS_RETRY_MAX = 1.0, 30.0
#: Seconds that one fetch may take, and that a token with an unknown key id waits for a fetch.
FETCH_LIMIT, KEYS_WAIT = 5.0, 8.0
#: Bits of an RSA key, at least (NIST SP 800-57).
MIN_RSA_BITS = 2048

#: A key, and the one algorithm that it is good for.
Key = tuple[Any, str]


class KeySet:
    """The public keys at a URL, by key id.

    A valid answer replaces all keys: a key that it lacks is withdrawn, and an empty set withdraws all. Any other answer
    changes nothing.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._fetching: asyncio.Task[bool] | None = None
        self._fetch_began = -KEYS_REFRESH_UNKNOWN
        self.keys: dict[str | None, Key] = {}
        #: Whether the last fetch brought a key set. While it did not, an unknown key may be a good one.
        self.is_current = False

    async def run(self) -> None:
        """Refresh the keys until cancelled. Nothing that a server answers ends this."""
        pause = KEYS_RETRY
        while True:
            if await self.fetch() and self.keys:
                await asyncio.sleep(KEYS_REFRESH)
                pause = KEYS_RETRY
            else:
                await asyncio.sleep(pause)
                pause = min(2 * pause, KEYS_RETRY_MAX)

    async def wait_for_unknown_key(self) -> None:
        """Wait for the next fetch, up to `KEYS_WAIT` seconds. All who wait share one fetch."""
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._fetch_in_turn())
        await asyncio.wait([self._fetching], timeout=KEYS_WAIT)

    async def _fetch_in_turn(self) -> bool:
        await asyncio.sleep(self._fetch_began + KEYS_REFRESH_UNKNOWN - time.monotonic())
        return await self.fetch()

    async def fetch(self) -> bool:
        """Fetch the keys; whether the answer was a key set."""
        self._fetch_began = time.monotonic()
        try:
            async with asyncio.timeout(FETCH_LIMIT), httpx.AsyncClient() as client:
                answer = await client.get(self._url)
            answer.raise_for_status()
            self.keys = usable_keys(answer.json())
        except Exception as error:
            metrics.KEY_FETCHES.labels("failed").inc()
            reason = str(error) or type(error).__name__
            self.is_current = False
            log.warning("The key set cannot be fetched; the edge keeps %d keys: %s", len(self.keys), reason)
            return False
        self.is_current = True
        metrics.KEY_FETCHES.labels("ok").inc()
        log.log(logging.INFO if self.keys else logging.ERROR, "Fetched a key set with %d usable keys.", len(self.keys))
        return True


def usable_keys(key_set: object) -> dict[str | None, Key]:
    """The keys of a key set that may verify tokens. Others are left out and logged. Raises ValueError."""
    entries = key_set.get("keys") if isinstance(key_set, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("the answer is no JWK set")
    keys: dict[str | None, Key] = {}
    for entry in entries:
        key_id = entry.get("kid")
        try:
            if not isinstance(key_id, str | None):
                raise ValueError("its id is no text")
            keys[key_id] = _usable_key(entry)
        except (ValueError, TypeError, jwt.PyJWTError) as error:
            log.warning("Key %.100r of the key set is ignored: %s.", key_id, error)
    return keys


def _usable_key(entry: dict[str, Any]) -> Key:
    if entry.get("use", "sig") != "sig":
        raise ValueError("it is not for signatures (use)")
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("it does not verify (key_ops)")
    key = jwt.PyJWK.from_dict(entry).key
    algorithm = algorithm_of(key)
    if entry.get("alg", algorithm) != algorithm:
        raise ValueError(f"it is for another algorithm than {algorithm} (alg)")
    return key, algorithm


def algorithm_of(key: object) -> str:
    """The algorithm that a public key is good for. Raises ValueError when there is none.

    The kind of key decides. The token's header does not: a forger would choose a weaker algorithm.
    """
    if isinstance(key, RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise ValueError(f"an RSA key must have at least {MIN_RSA_BITS} bits, this one has {key.key_size}")
        return "RS256"
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name == "secp256r1":
        return "ES256"
    raise ValueError("it must be a public RSA key (RS256) or a public P-256 key (ES256)")
