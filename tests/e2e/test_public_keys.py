"""Tokens checked with public keys: one from a setting, or a set of them that is fetched and rotated."""

import asyncio
import base64
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from contracts.errors import Code
from infra.local.ports import free_ports
from infra.local.stack import Stack, edge_process
from infra.local.supervisor import Process
from tests.support.forged_tokens import EC_KEY, RSA_KEY, PrivateKey, claims, forge, pem
from tests.support.key_server import key_server
from tests.support.people import People

#: What an edge with public keys demands of tokens.
MEANT_FOR_US = {"iss": "https://issuer.test", "aud": "warren"}


@asynccontextmanager
async def edge_without_secret(stack: Stack, **env: str) -> AsyncIterator[Process]:
    """An edge of the stack that checks tokens by what `env` says instead of the stack's secret."""
    (port,) = free_ports(0)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WARREN_")}
    settings = {
        "WARREN_AMQP_URL": stack.tenant.amqp_url,
        "WARREN_DRAIN_SECONDS": "0",
        "WARREN_JWT_ISSUER": MEANT_FOR_US["iss"],
        "WARREN_JWT_AUDIENCE": MEANT_FOR_US["aud"],
    }
    name = f"edge-{next(iter(env)).lower()}-{port}"
    edge = edge_process(name, port, {**inherited, **settings, **env}, stack.logs)
    edge.spawn()
    try:
        await edge.until_ready()
        yield edge
    finally:
        await stack.terminate(edge)


async def test_an_rsa_key_is_good_for_rs256_alone(people: People, stack: Stack) -> None:
    async with edge_without_secret(stack, WARREN_JWT_PUBLIC_KEY=pem(RSA_KEY)) as edge:
        await check_public_key(people, edge, RSA_KEY, "RS256")


async def test_a_p256_key_is_good_for_es256_alone(people: People, stack: Stack) -> None:
    async with edge_without_secret(stack, WARREN_JWT_PUBLIC_KEY=pem(EC_KEY)) as edge:
        await check_public_key(people, edge, EC_KEY, "ES256")


async def check_public_key(people: People, edge: Process, key: PrivateKey, algorithm: str, **head: str) -> None:
    """A token by the private key is good there; one that abuses what everybody knows, the public key, is not."""
    user_id = people.name("ada")
    good = claims(user_id, **MEANT_FOR_US)
    ada = await people.socket(
        {"token": jwt.encode(good, key, algorithm=algorithm, headers=head)}, edge, user_id
    ).connect()
    await ada.call("list_conversations")
    other = (
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        if algorithm == "RS256"
        else ec.generate_private_key(ec.SECP256R1())
    )
    public = pem(key)
    tokens = {
        "another key": jwt.encode(good, other, algorithm=algorithm, headers=head),
        "the public key as a secret": forge({"alg": "HS256", **head}, good, public.encode()),
        "the same, without the last line break": forge({"alg": "HS256", **head}, good, public.strip().encode()),
        "the secret of another edge": jwt.encode(good, people.stack.secret, algorithm="HS256", headers=head),
        "unsigned": forge({"alg": "none", **head}, good, None),
    }
    if algorithm == "RS256":
        tokens["another hash"] = jwt.encode(good, key, algorithm="RS512", headers=head)
        tokens["PS256"] = jwt.encode(good, key, algorithm="PS256", headers=head)
    for what, token in tokens.items():
        assert await people.refusal({"token": token}, edge) == "unauthorized", what
    expired = jwt.encode({**good, "exp": int(time.time()) - 5}, key, algorithm=algorithm, headers=head)
    assert await people.refusal({"token": expired}, edge) == "token_expired"


@pytest.mark.answers(Code.UNAUTHORIZED, Code.TOKEN_EXPIRED)
async def test_a_jwk_set_brings_keys_of_both_kinds(people: People, stack: Stack) -> None:
    # Given an edge that fetches two public keys, beside one of a kind that nobody may choose
    with key_server() as keys:
        keys.add("rsa", RSA_KEY)
        keys.add("ec", EC_KEY)
        keys.keys.append({"kty": "oct", "kid": "oct", "k": base64.urlsafe_b64encode(b"x" * 32).decode()})
        async with edge_without_secret(stack, WARREN_JWT_JWKS_URL=keys.url, WARREN_DEV="true") as edge:
            # Then each key is good for tokens of its own algorithm that name it
            await check_public_key(people, edge, RSA_KEY, "RS256", kid="rsa")
            await check_public_key(people, edge, EC_KEY, "ES256", kid="ec")
            good = claims(people.name("ada"), **MEANT_FOR_US)
            tokens = {
                "no key named": jwt.encode(good, RSA_KEY, algorithm="RS256"),
                "the other key named": jwt.encode(good, RSA_KEY, algorithm="RS256", headers={"kid": "ec"}),
                "a symmetric key": jwt.encode(good, "x" * 32, algorithm="HS256", headers={"kid": "oct"}),
                "a key elsewhere": jwt.encode(good, RSA_KEY, algorithm="RS256", headers={"jku": keys.url}),
            }
            for what, token in tokens.items():
                assert await people.refusal({"token": token}, edge) == "unauthorized", what
            # And tokens that name unknown keys do not make the edge hammer the server
            asked = keys.asked
            strange = [jwt.encode(good, EC_KEY, algorithm="ES256", headers={"kid": f"k{i}"}) for i in range(5)]
            refused = await asyncio.gather(*(people.refusal({"token": token}, edge) for token in strange))
            assert set(refused) == {"unauthorized"}
            assert keys.asked <= asked + 1


async def test_when_keys_are_rotated_nobody_is_refused(people: People, stack: Stack) -> None:
    # Given an edge that has fetched its key set a moment ago, and a user whose token is by the old key
    with key_server() as keys:
        keys.add("old", RSA_KEY)
        async with edge_without_secret(stack, WARREN_JWT_JWKS_URL=keys.url, WARREN_DEV="true") as edge:

            def token(user_id: str, key: PrivateKey, algorithm: str, key_id: str, **more: int) -> str:
                payload = {**claims(user_id, **MEANT_FOR_US), **more}
                return jwt.encode(payload, key, algorithm=algorithm, headers={"kid": key_id})

            first = people.name("first")
            stays = await people.socket({"token": token(first, RSA_KEY, "RS256", "old")}, edge, first).connect()

            # When the keys are rotated, and ten users come at once with tokens by the new key
            keys.keys.clear()
            keys.add("new", EC_KEY)
            keys.delay = 0.5
            asked = keys.asked
            user_ids = [people.name("user") for _ in range(10)]
            sockets = [
                people.socket({"token": token(user_id, EC_KEY, "ES256", "new")}, edge, user_id) for user_id in user_ids
            ]
            later = int(time.time()) + 3_000
            refreshing = stays.call("refresh_token", token=token(first, EC_KEY, "ES256", "new", exp=later))
            _, *connected = await asyncio.gather(refreshing, *(socket.connect() for socket in sockets))

            # Then all of them are in, after one fetch, and so is the token that was refreshed
            assert all(socket.is_connected for socket in connected)
            assert keys.asked == asked + 1
            # And the old key is withdrawn
            assert await people.refusal({"token": token(first, RSA_KEY, "RS256", "old")}, edge) == "unauthorized"
