"""Tokens: which are refused and with which code, when they expire, and how a socket gets a new one."""

import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
import pytest_asyncio

from contracts.errors import Code
from infra.local.stack import Stack
from infra.local.supervisor import Process
from tests.support.extra_processes import extra_edge
from tests.support.forged_tokens import EC_KEY, RSA_KEY, YEAR_2100, Json, claims, forge
from tests.support.people import People
from tests.support.scrape import metric

# --- Refused --------------------------------------------------------------------------------------------


@pytest.mark.answers(Code.UNAUTHORIZED)
@pytest.mark.parametrize(
    "auth",
    [
        None,
        {},
        {"token": None},
        {"token": ""},
        {"token": 7},
        {"token": ["a"]},
        {"token": {"$gt": ""}},
        {"token": "nonsense"},
        {"token": "a.b.c"},
        {"token": "x" * 20_000},
        {"Token": "a"},
        "token",
        ["token"],
    ],
    ids=lambda auth: json.dumps(auth)[:30],
)
async def test_without_a_token_nobody_connects(people: People, auth: Json) -> None:
    assert await people.refusal(auth) == "unauthorized"


@pytest.mark.answers(Code.UNAUTHORIZED)
async def test_a_token_in_the_address_is_not_looked_at(people: People, stack: Stack) -> None:
    client = people.socket(None)
    address = f"{client.edge.url}/?token={stack.token(people.name('ada'))}"
    assert (await client.refused(address))["code"] == "unauthorized"


@pytest.mark.answers(Code.UNAUTHORIZED)
@pytest.mark.parametrize(
    "changed",
    [
        {"sub": None},
        {"sub": 7},
        {"sub": ""},
        {"sub": "x" * 129},
        {"sub": "a\nb"},
        {"sub": ["a"]},
        {"sub": {"$gt": ""}},
        {"exp": None},
        {"exp": "soon"},
        {"exp": []},
        {"nbf": YEAR_2100},
    ],
    ids=lambda changed: json.dumps(changed)[:40],
)
async def test_a_token_whose_claims_are_wrong_is_refused(people: People, stack: Stack, changed: Json) -> None:
    payload = claims("ada", **changed)
    token = forge({"alg": "HS256", "typ": "JWT"}, payload, stack.secret.encode())
    assert await people.refusal({"token": token}) == "unauthorized"


@pytest.mark.answers(Code.UNAUTHORIZED)
async def test_a_token_that_is_signed_wrongly_is_refused(people: People, stack: Stack) -> None:
    # Given tokens with good claims, each with another flaw in its signature
    good, secret = claims(people.name("ada")), stack.secret.encode()
    head, body, signature = jwt.encode(good, stack.secret, algorithm="HS256").split(".")
    other_body = forge({}, claims("somebody-else"), None).split(".")[1]
    tokens = {
        "another key": jwt.encode(good, "another secret that is long enough", algorithm="HS256"),
        "unsigned": forge({"alg": "none", "typ": "JWT"}, good, None),
        "unsigned, in capitals": forge({"alg": "NONE"}, good, None),
        "signed, but saying none": forge({"alg": "none"}, good, secret),
        "no algorithm": forge({"typ": "JWT"}, good, secret),
        "signature cut off": f"{head}.{body}.",
        "another's claims": f"{head}.{other_body}.{signature}",
        "another hash": jwt.encode(good, stack.secret, algorithm="HS512"),
        "RS256": jwt.encode(good, RSA_KEY, algorithm="RS256"),
        "ES256": jwt.encode(good, EC_KEY, algorithm="ES256"),
        "a key that it brings along": forge({"alg": "HS256", "jwk": {"kty": "oct", "k": "eA"}}, good, b"x"),
        "a key that it names": forge({"alg": "HS256", "kid": "/dev/null"}, good, b""),
    }

    # Then none of them is taken
    for what, token in tokens.items():
        assert await people.refusal({"token": token}) == "unauthorized", what


@pytest.mark.answers(Code.TOKEN_EXPIRED)
async def test_an_expired_token_is_refused_as_such(people: People, stack: Stack) -> None:
    before = await metric(stack.edges[0], "warren_edge_connects_total", outcome="token_expired")
    token = stack.token(people.name("ada"), ttl=-5)
    data = await people.socket({"token": token}).refused()
    assert (data["code"], data["retryable"]) == ("token_expired", False)
    assert await metric(stack.edges[0], "warren_edge_connects_total", outcome="token_expired") == before + 1


# --- Expiry and refresh ---------------------------------------------------------------------------------


async def test_a_socket_is_disconnected_when_its_token_expires(people: People) -> None:
    # Given two sockets whose tokens end in a moment, and one of them gets a new token
    stays, goes = [await people.connect(people.name(label), ttl=5) for label in ("stays", "goes")]
    later = int(time.time()) + 600
    refreshed = await stays.call("refresh_token", token=people.stack.token(stays.user_id, exp=later))

    # Then the ack says when that one ends
    expires = datetime.fromtimestamp(later, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert refreshed == {"expires_at": expires}
    # And the other is disconnected by the server, for good
    reason = await goes.until_closed()
    assert reason == "server disconnect"
    # While the first still chats
    assert (await stays.call("list_conversations"))["conversations"] == []
    assert stays.closed is None


@pytest.mark.answers(Code.UNAUTHORIZED, Code.TOKEN_EXPIRED, Code.INVALID_PAYLOAD)
async def test_only_a_good_token_of_the_same_user_refreshes(people: People, stack: Stack) -> None:
    # Given a socket, and tokens that are not fit for it
    ada = await people.connect(people.name("ada"))
    for token, code in {
        stack.token(people.name("bob"), ttl=7200): "unauthorized",
        "nonsense": "unauthorized",
        jwt.encode(claims(ada.user_id, exp=int(time.time()) + 7200), "x" * 40): "unauthorized",
        stack.token(ada.user_id, ttl=-5): "token_expired",
        stack.token(ada.user_id, ttl=60): "invalid_payload",
        "": "invalid_payload",
    }.items():
        # Then each is refused with its code
        error = await ada.error("refresh_token", token=token)
        assert error["code"] == code, token

    # And none of that does the socket any harm
    assert await ada.call("refresh_token", token=stack.token(ada.user_id, ttl=7200))
    assert ada.is_connected


# --- What settings ask of claims ------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def strict_edge(stack: Stack) -> AsyncIterator[Process]:
    """An edge for verified users of one issuer."""
    settings = {
        "WARREN_JWT_VERIFIED_CLAIM": "email_verified",
        "WARREN_JWT_ISSUER": "https://issuer.test",
        "WARREN_JWT_AUDIENCE": "warren",
    }
    async with extra_edge(stack, settings) as edge:
        yield edge


#: Claims that it asks for.
GOOD: dict[str, Any] = {"iss": "https://issuer.test", "aud": "warren", "email_verified": True}


@pytest.mark.answers(Code.NOT_VERIFIED)
async def test_only_verified_users_connect_where_that_is_asked_for(people: People, strict_edge: Process) -> None:
    ada = people.name("ada")
    for claim in (False, None, "true", 1, [True]):
        token = people.stack.token(ada, **{**GOOD, "email_verified": claim})
        assert await people.refusal({"token": token}, strict_edge) == "not_verified", claim
    await people.connect(ada, strict_edge, **GOOD)


@pytest.mark.answers(Code.UNAUTHORIZED)
async def test_issuer_and_audience_are_checked_where_they_are_set(people: People, strict_edge: Process) -> None:
    ada = people.name("ada")
    wrongs: list[dict[str, Any]] = [{"iss": "https://other.test"}, {"aud": "other"}, {"aud": []}]
    for wrong in wrongs:
        token = people.stack.token(ada, **{**GOOD, **wrong})
        assert await people.refusal({"token": token}, strict_edge) == "unauthorized", wrong
    assert await people.refusal({"token": people.stack.token(ada)}, strict_edge) == "unauthorized"
    await people.connect(ada, strict_edge, **{**GOOD, "aud": ["others", "warren"]})
