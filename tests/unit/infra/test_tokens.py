"""Tokens for development and for the canary."""

import time

import jwt
import pytest
from pydantic import SecretStr

from infra.settings import EdgeSettings
from infra.tokens import NoSecret, make_token

SECRET = "s" * 32
KEYS = "https://keys.test/jwks"


def claims(settings: EdgeSettings) -> dict[str, object]:
    """What a token for ada says, once its signature is checked."""
    token = make_token(settings, "ada", ttl=60)
    return dict(jwt.decode(token, SECRET, algorithms=["HS256"], options={"verify_aud": False}))


def test_a_token_has_a_name_and_an_end() -> None:
    made = claims(EdgeSettings(jwt_secret=SecretStr(SECRET)))
    assert 50 < int(str(made.pop("exp"))) - time.time() <= 60
    assert made == {"sub": "ada", "name": "ada"}


def test_a_token_has_every_claim_that_the_settings_require() -> None:
    required = {"jwt_issuer": "https://issuer.test", "jwt_audience": "warren", "jwt_verified_claim": "email_verified"}
    made = claims(EdgeSettings(jwt_secret=SecretStr(SECRET), **required))  # type: ignore[arg-type]
    assert (made["iss"], made["aud"], made["email_verified"]) == ("https://issuer.test", "warren", True)


def test_without_a_secret_nothing_is_signed() -> None:
    with pytest.raises(NoSecret, match="WARREN_JWT_SECRET"):
        make_token(EdgeSettings(jwt_jwks_url=KEYS, jwt_issuer="https://issuer.test", jwt_audience="w"), "ada", ttl=60)
