"""Key sets: which keys of them are used, what an answer of the server changes, and who waits for which fetch."""

import asyncio
import base64
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from contracts.errors import Code, Refused
from edge.auth import MAX_TOKEN, TokenVerifier
from edge.keys import KeySet
from infra.settings import EdgeSettings
from tests.support.forged_tokens import EC_KEY, RSA_KEY, PrivateKey, claims, forge
from tests.support.key_server import KeyServer, key_server
from tests.support.waiting import eventually

P384_KEY = ec.generate_private_key(ec.SECP384R1())
SMALL_KEY = rsa.generate_private_key(public_exponent=65537, key_size=1024)
MEANT_FOR_US = {"iss": "https://issuer.test", "aud": "warren"}


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with key_server() as server:
        yield server


def verifier(url: str) -> TokenVerifier:
    """A verifier with a key set of this machine."""
    settings = {"jwt_jwks_url": url, "jwt_issuer": MEANT_FOR_US["iss"], "jwt_audience": MEANT_FOR_US["aud"]}
    return TokenVerifier(EdgeSettings.model_validate({**settings, "dev": True}))


def by(key: PrivateKey, key_id: str | None, algorithm: str = "RS256") -> str:
    """A token that names a key."""
    payload = claims("ada", **MEANT_FOR_US)
    return jwt.encode(payload, key, algorithm=algorithm, headers={"kid": key_id} if key_id else {})


def is_good(tokens: TokenVerifier, token: str) -> bool:
    """Whether a token is accepted; else it is unauthorized, or its key cannot be fetched now."""
    try:
        return tokens.verify(token).user_id == "ada"
    except Refused as refused:
        if refused.code not in (Code.UNAUTHORIZED, Code.UNAVAILABLE):
            raise
        return False


# --- Which keys -------------------------------------------------------------------------------------------


async def test_each_key_of_a_set_is_good_for_its_own_algorithm(server: KeyServer) -> None:
    # Given a set with a key of both kinds, and others that nobody may choose
    server.add("rsa", RSA_KEY)
    server.add("ec", EC_KEY)
    server.add("p384", P384_KEY)
    server.keys.append({"kty": "oct", "kid": "oct", "k": base64.urlsafe_b64encode(b"x" * 32).decode()})
    tokens = verifier(server.url)
    await tokens.wait_for_key(by(RSA_KEY, "rsa"))

    # Then tokens of the two are good
    assert is_good(tokens, by(RSA_KEY, "rsa"))
    assert is_good(tokens, by(EC_KEY, "ec", "ES256"))
    # And no others are
    payload = claims("ada", **MEANT_FOR_US)
    for token in (
        by(RSA_KEY, None),
        by(RSA_KEY, "ec"),
        by(RSA_KEY, "elsewhere"),
        by(P384_KEY, "p384", "ES384"),
        jwt.encode(payload, "x" * 32, algorithm="HS256", headers={"kid": "oct"}),
        jwt.encode(payload, RSA_KEY, algorithm="RS256", headers={"jku": server.url}),
        forge({"alg": "RS256", "kid": ["rsa"]}, payload, b"x"),
    ):
        assert not is_good(tokens, token)


@pytest.mark.parametrize(
    ("key", "more", "reason"),
    [
        (SMALL_KEY, {}, "at least 2048 bits"),
        (RSA_KEY, {"use": "enc"}, "not for signatures"),
        (RSA_KEY, {"key_ops": ["encrypt"]}, "does not verify"),
        (RSA_KEY, {"key_ops": "verify"}, "does not verify"),
        (RSA_KEY, {"alg": "RS512"}, "another algorithm than RS256"),
        (RSA_KEY, {"alg": "RSA-OAEP"}, "RSA-OAEP"),
        (EC_KEY, {"alg": "RS256"}, ""),
        (P384_KEY, {}, "P-256"),
        (RSA_KEY, {"kty": "nonsense"}, "nonsense"),
        (RSA_KEY, {"n": 7}, ""),
        (RSA_KEY, {"kid": ["rsa"]}, "id is no text"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
async def test_a_key_that_is_weak_or_for_something_else_is_ignored(
    server: KeyServer, caplog: pytest.LogCaptureFixture, key: PrivateKey, more: dict[str, Any], reason: str
) -> None:
    server.add("bad", key, **more)
    server.add("good", RSA_KEY, key_ops=["verify"], alg="RS256")
    key_set = KeySet(server.url)
    assert await key_set.fetch()
    assert list(key_set.keys) == ["good"]
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "of the key set is ignored" in line
    assert reason in line


# --- Answers of the server --------------------------------------------------------------------------------

NO_KEY_SET = [
    b"null",
    b"[]",
    b"7",
    b'"keys"',
    b"{}",
    b'{"keys":null}',
    b'{"keys":{}}',
    b'{"keys":[null]}',
]


@pytest.mark.parametrize(
    "body",
    [*NO_KEY_SET, b'{"keys":["text"]}', b"", b"<html>", b"[" * 100_000, b"\xff"],
    ids=lambda body: repr(body[:20]),
)
async def test_an_answer_that_is_no_key_set_changes_nothing_and_ends_nothing(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    # Given a verifier that has a key, and refreshes often
    monkeypatch.setattr("edge.keys.KEYS_REFRESH", 0.01)
    monkeypatch.setattr("edge.keys.KEYS_RETRY", 0.01)
    server.add("rsa", RSA_KEY)
    tokens = verifier(server.url)
    running = asyncio.create_task(tokens.run())
    await eventually(lambda: tokens.ready, sentence="the keys are there")

    # When the server answers nonsense, then the key stays
    server.body = body
    asked = server.asked
    await eventually(lambda: server.asked > asked + 2, sentence="it is asked again")
    assert is_good(tokens, by(RSA_KEY, "rsa"))
    assert "cannot be fetched; the edge keeps 1 keys" in caplog.text

    # And the next key set is taken
    server.keys.clear()
    server.add("ec", EC_KEY)
    server.body = None
    await eventually(lambda: is_good(tokens, by(EC_KEY, "ec", "ES256")), sentence="the new key is there")
    assert not is_good(tokens, by(RSA_KEY, "rsa"))
    assert not running.done()
    running.cancel()


async def test_an_unknown_key_is_no_reason_to_give_up_while_the_server_is_away(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.keys.KEYS_REFRESH_UNKNOWN", 0.01)
    # Given an edge with one key, and a token with another one
    server.add("rsa", RSA_KEY)
    tokens = verifier(server.url)
    server.status = 503
    await tokens.wait_for_key(by(RSA_KEY, "rsa"))

    # Then the client may try again while the server fails, and is refused for good when it answers
    with pytest.raises(Refused) as refused:
        tokens.verify(by(RSA_KEY, "rsa"))
    assert refused.value.code == Code.UNAVAILABLE
    server.status = 200
    await tokens.wait_for_key(by(EC_KEY, "ec", "ES256"))
    assert is_good(tokens, by(RSA_KEY, "rsa"))
    with pytest.raises(Refused) as refused:
        tokens.verify(by(EC_KEY, "ec", "ES256"))
    assert refused.value.code == Code.UNAUTHORIZED


async def test_the_keys_stay_when_the_server_fails_or_is_slow(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add("rsa", RSA_KEY)
    key_set = KeySet(server.url)
    assert await key_set.fetch()
    server.status = 503
    assert not await key_set.fetch()
    server.status, server.delay = 200, 0.2
    monkeypatch.setattr("edge.keys.FETCH_LIMIT", 0.05)
    assert not await key_set.fetch()
    assert not await KeySet("http://127.0.0.1:1/").fetch()
    assert list(key_set.keys) == ["rsa"]


async def test_an_empty_set_withdraws_all_keys(server: KeyServer) -> None:
    server.add("rsa", RSA_KEY)
    tokens = verifier(server.url)
    await tokens.wait_for_key(by(RSA_KEY, "rsa"))
    assert is_good(tokens, by(RSA_KEY, "rsa"))
    server.keys.clear()
    key_set = tokens._key_set
    assert key_set is not None
    assert await key_set.fetch()
    assert not is_good(tokens, by(RSA_KEY, "rsa"))
    assert not tokens.ready


async def test_a_set_is_fetched_at_start_and_again_until_it_is_there(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.keys.KEYS_RETRY", 0.01)
    server.status = 503
    tokens = verifier(server.url)
    running = asyncio.create_task(tokens.run())
    await eventually(lambda: server.asked > 1, sentence="the fetch is repeated")
    assert not tokens.ready

    server.add("rsa", RSA_KEY)
    server.status = 200

    await eventually(lambda: tokens.ready, sentence="the keys are there")
    running.cancel()


# --- Rotation ---------------------------------------------------------------------------------------------


async def test_all_tokens_with_a_new_key_wait_for_one_fetch(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a verifier that fetched the set just before a key was added
    monkeypatch.setattr("edge.keys.KEYS_REFRESH_UNKNOWN", 0.3)
    server.add("old", RSA_KEY)
    tokens = verifier(server.url)
    await tokens.wait_for_key(by(RSA_KEY, "old"))
    fetched, asked = time.monotonic(), server.asked
    server.add("new", EC_KEY)
    server.delay = 0.1
    token = by(EC_KEY, "new", "ES256")
    assert tokens.has_key_for(by(RSA_KEY, "old"))
    assert not tokens.has_key_for(token)

    # When many tokens name it, at once and while it is fetched
    async def present(after: float) -> bool:
        await asyncio.sleep(after)
        await tokens.wait_for_key(token)
        return is_good(tokens, token)

    good = await asyncio.gather(*(present(number * 0.03) for number in range(12)))

    # Then all of them are good, after one fetch, which was not too soon
    assert good == [True] * 12
    assert server.asked == asked + 1
    assert time.monotonic() - fetched >= 0.3


async def test_unknown_keys_do_not_make_an_edge_hammer_the_server(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.keys.KEYS_REFRESH_UNKNOWN", 0.2)
    tokens = verifier(server.url)
    began = time.monotonic()
    for number in range(4):
        await asyncio.gather(*(tokens.wait_for_key(by(EC_KEY, f"k{number}.{each}", "ES256")) for each in range(10)))
    assert server.asked <= 1 + (time.monotonic() - began) / 0.2
    assert server.asked == 4


async def test_nobody_waits_for_a_key_longer_than_a_bound(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.keys.KEYS_WAIT", 0.05)
    server.delay = 1.0
    tokens = verifier(server.url)
    began = time.monotonic()
    await tokens.wait_for_key(by(RSA_KEY, "rsa"))
    assert time.monotonic() - began < server.delay


@pytest.mark.parametrize("token", [None, 7, "", "nonsense", "a.b.c", "x" * (MAX_TOKEN + 1)])
async def test_nothing_is_fetched_for_what_is_no_token(server: KeyServer, token: object) -> None:
    tokens = verifier(server.url)
    assert tokens.has_key_for(token)
    await tokens.wait_for_key(token)
    assert server.asked == 0
