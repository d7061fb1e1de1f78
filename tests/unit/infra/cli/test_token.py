"""`token`: signs a token that an edge with the same settings takes, in development only."""

import time

import pytest

from edge.auth import TokenVerifier
from infra.settings import EdgeSettings
from tests.support.operator_commands import operate

SECRET = "a secret of at least 32 bytes, really"
DEVELOPMENT = {"WARREN_DEV": "true", "WARREN_JWT_SECRET": SECRET}


def test_a_token_is_one_that_an_edge_takes() -> None:
    printed = operate("token", "ada", "--name", "Ada", "--ttl", "60", env=DEVELOPMENT)
    assert printed.exit_code == 0
    identity = TokenVerifier(EdgeSettings.model_validate({"jwt_secret": SECRET})).verify(printed.output.strip())
    assert (identity.user_id, identity.name) == ("ada", "Ada")
    assert time.time() < identity.expires_at <= time.time() + 61


def test_a_token_has_every_claim_that_the_settings_ask_for() -> None:
    asked = {"jwt_issuer": "https://issuer.test", "jwt_audience": "warren", "jwt_verified_claim": "verified"}
    env = {**DEVELOPMENT, **{f"WARREN_{name.upper()}": value for name, value in asked.items()}}
    printed = operate("token", "ada", env=env)
    settings = EdgeSettings.model_validate({"jwt_secret": SECRET, **asked})
    assert TokenVerifier(settings).verify(printed.output.strip()).name == "ada"


@pytest.mark.parametrize(
    "env",
    [
        {"WARREN_JWT_SECRET": SECRET},
        {"WARREN_DEV": "false", "WARREN_JWT_SECRET": SECRET},
        {
            "WARREN_DEV": "true",
            "WARREN_JWT_JWKS_URL": "https://issuer.test/keys",
            "WARREN_JWT_ISSUER": "https://issuer.test",
            "WARREN_JWT_AUDIENCE": "warren",
        },
    ],
    ids=["not development", "production", "no secret"],
)
def test_outside_development_there_is_no_token(env: dict[str, str]) -> None:
    refused = operate("token", "ada", env=env)
    assert refused.exit_code == 1
    assert "in development only: set WARREN_DEV=true and WARREN_JWT_SECRET" in refused.output
