"""Connecting: tokens of every kind, `session_ready`, expiry, `refresh_token`, and room for so many."""

import asyncio
import base64
import hashlib
import hmac
import http.server
import json
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from typing_extensions import override

from contracts.errors import Code
from infra.local.stack import HOST, Process, Stack
from tests.support.people import People
from tests.support.scrape import metric
from tests.support.socketio_client import Json
from tests.support.waiting import eventually

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    """A public key as the setting takes it."""
    encoded = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return encoded.decode()


def claims(user_id: Json, **more: Json) -> dict[str, Json]:
    """Claims of a good token, with changes; None leaves a claim out."""
    payload = {"sub": user_id, "exp": int(time.time()) + 600, **more}
    return {name: value for name, value in payload.items() if value is not None}


def forge(header: Json, payload: Json, secret: bytes | None) -> str:
    """A token that no library would make: any header, signed with any bytes as an HMAC secret, or not at all."""

    def part(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    signed = part(json.dumps(header).encode()) + b"." + part(json.dumps(payload).encode())
    signature = b"" if secret is None else part(hmac.new(secret, signed, hashlib.sha256).digest())
    return (signed + b"." + signature).decode()


# --- A good token -----------------------------------------------------------------------------------------


async def test_a_socket_is_told_when_it_can_be_routed_to(people: People) -> None:
    before = datetime.now(UTC).timestamp()
    ada = await people.connect(people.name("ada"), name="Ada", picture="https://pictures.test/ada.png")

    ready = await ada.push("session_ready")

    assert ready["user"] == {"id": ada.user_id, "name": "Ada", "picture": "https://pictures.test/ada.png"}
    assert ready["edge_id"]
    assert before - 1 < datetime.fromisoformat(ready["server_time"]).timestamp() < before + 60
    assert ready["limits"]["max_body_characters"] == 4000
    assert ready["limits"]["events_per_second"] == 50
    assert ready["limits"]["burst"] == 100
    assert [push.name for push in ada.pushes] == ["session_ready"]


async def test_each_edge_names_itself(people: People) -> None:
    ada, bob = await people.arrive("ada", "bob")
    assert (await ada.push("session_ready"))["edge_id"] != (await bob.push("session_ready"))["edge_id"]


async def test_a_user_without_a_name_is_called_by_their_id(people: People, stack: Stack) -> None:
    user_id = people.name("ada")
    token = jwt.encode(claims(user_id), stack.secret, algorithm="HS256")
    ada = await people.socket({"token": token}, user_id=user_id).connect()
    assert (await ada.push("session_ready"))["user"] == {"id": user_id, "name": user_id, "picture": None}


@pytest.mark.parametrize("user_id", ["$where", "a.b", "{}", "ünï 😀", "x" * 128, "__proto__", "a/b#c?d"])
async def test_any_user_id_of_1_to_128_characters_can_chat(people: People, user_id: str) -> None:
    # Given a user with an unusual id; unique by what is left of its 128 characters
    user_id = (people.name("u") + user_id)[:128] if len(user_id) == 128 else user_id + people.name("-u")
    ada, (bob,) = await people.connect(user_id), await people.arrive("bob", edges=(1,))

    # When they are written to, and answer
    conversation_id = await people.start(bob, user_id)
    await people.say(bob, conversation_id)
    message = await people.say(ada, conversation_id)

    # Then all is as with any other
    assert message["sender_id"] == user_id
    assert await bob.push("new_message", conversation_id) == {"message": message}
    assert (await bob.call("get_presence", user_ids=[user_id]))["presence"][0]["online"] is True
    assert (await ada.call("message_seen", conversation_id=conversation_id, seq=2))["unread_count"] == 0


# --- Refused ----------------------------------------------------------------------------------------------


async def refusal(people: People, auth: Json, edge: int | Process = 0) -> str:
    """The code of the `connect_error` that this auth gets."""
    data = await people.socket(auth, edge).refused()
    code: str = data["code"]
    return code


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
    assert await refusal(people, auth) == "unauthorized"


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
        {"nbf": int(time.time()) + 600},
    ],
    ids=lambda changed: json.dumps(changed)[:40],
)
async def test_a_token_whose_claims_are_wrong_is_refused(people: People, stack: Stack, changed: Json) -> None:
    payload = claims("ada", **changed)
    token = forge({"alg": "HS256", "typ": "JWT"}, payload, stack.secret.encode())
    assert await refusal(people, {"token": token}) == "unauthorized"


@pytest.mark.answers(Code.UNAUTHORIZED)
async def test_a_token_that_is_signed_wrongly_is_refused(people: People, stack: Stack) -> None:
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
    for what, token in tokens.items():
        assert await refusal(people, {"token": token}) == "unauthorized", what


@pytest.mark.answers(Code.TOKEN_EXPIRED)
async def test_an_expired_token_is_refused_as_such(people: People, stack: Stack) -> None:
    before = await metric(stack.edges[0], "warren_edge_connects_total", outcome="token_expired")
    token = stack.token(people.name("ada"), ttl=-5)
    data = await people.socket({"token": token}).refused()
    assert (data["code"], data["retryable"]) == ("token_expired", False)
    assert await metric(stack.edges[0], "warren_edge_connects_total", outcome="token_expired") == before + 1


# --- Expiry and refresh -----------------------------------------------------------------------------------


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
    ada = await people.connect(people.name("ada"))
    for token, code in {
        stack.token(people.name("bob"), ttl=7200): "unauthorized",
        "nonsense": "unauthorized",
        jwt.encode(claims(ada.user_id, exp=int(time.time()) + 7200), "x" * 40): "unauthorized",
        stack.token(ada.user_id, ttl=-5): "token_expired",
        stack.token(ada.user_id, ttl=60): "invalid_payload",
        "": "invalid_payload",
    }.items():
        error = await ada.error("refresh_token", token=token)
        assert error["code"] == code, token
    # None of that did the socket any harm
    assert await ada.call("refresh_token", token=stack.token(ada.user_id, ttl=7200))
    assert ada.is_connected


# --- Edges with other settings ----------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def strict_edge(stack: Stack) -> AsyncIterator[Process]:
    """An edge for verified users of one issuer, with room for two sockets a user and four in all."""
    edge = await stack.add_edge(
        {
            "WARREN_JWT_VERIFIED_CLAIM": "email_verified",
            "WARREN_JWT_ISSUER": "https://issuer.test",
            "WARREN_JWT_AUDIENCE": "warren",
            "WARREN_MAX_CONNECTIONS_PER_USER": "2",
            "WARREN_MAX_CONNECTIONS": "4",
        }
    )
    yield edge
    await stack.terminate(edge)


GOOD: dict[str, Any] = {"iss": "https://issuer.test", "aud": "warren", "email_verified": True}


@pytest.mark.answers(Code.NOT_VERIFIED)
async def test_only_verified_users_connect_where_that_is_asked_for(people: People, strict_edge: Process) -> None:
    ada = people.name("ada")
    for claim in (False, None, "true", 1, [True]):
        token = people.stack.token(ada, **{**GOOD, "email_verified": claim})
        assert await refusal(people, {"token": token}, strict_edge) == "not_verified", claim
    await people.connect(ada, strict_edge, **GOOD)


@pytest.mark.answers(Code.UNAUTHORIZED)
async def test_issuer_and_audience_are_checked_where_they_are_set(people: People, strict_edge: Process) -> None:
    ada = people.name("ada")
    wrongs: list[dict[str, Any]] = [{"iss": "https://other.test"}, {"aud": "other"}, {"aud": []}]
    for wrong in wrongs:
        token = people.stack.token(ada, **{**GOOD, **wrong})
        assert await refusal(people, {"token": token}, strict_edge) == "unauthorized", wrong
    assert await refusal(people, {"token": people.stack.token(ada)}, strict_edge) == "unauthorized"
    await people.connect(ada, strict_edge, **{**GOOD, "aud": ["others", "warren"]})


@pytest.mark.answers(Code.TOO_MANY_CONNECTIONS)
async def test_a_user_has_room_for_so_many_connections(people: People, strict_edge: Process) -> None:
    # Given a user with as many sockets as one may have
    ada = people.name("ada")
    first, second = [await people.connect(ada, strict_edge, **GOOD) for _ in range(2)]

    # When they open another, it is refused for now
    token = people.stack.token(ada, **GOOD)
    data = await people.socket({"token": token}, strict_edge).refused()
    assert (data["code"], data["retryable"]) == ("too_many_connections", True)

    # While others still have room, until the edge is full
    others = [await people.connect(people.name("bob"), strict_edge, **GOOD) for _ in range(2)]
    token_of_another = people.stack.token(people.name("cy"), **GOOD)
    assert await refusal(people, {"token": token_of_another}, strict_edge) == "too_many_connections"

    # And once a socket has closed there is room again
    await first.close()

    async def admitted() -> bool:
        try:
            await people.socket({"token": token}, strict_edge, ada).connect()
        except Exception as error:
            raise AssertionError(str(error)) from error
        return True

    await eventually(admitted, sentence="a socket that closed leaves room for another")
    assert second.is_connected
    assert all(other.is_connected for other in others)
    await people.leave()


@asynccontextmanager
async def edge_without_secret(stack: Stack, **env: str) -> AsyncIterator[Process]:
    """An edge of the stack that checks tokens by what `env` says instead of the stack's secret."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WARREN_")}
    settings = {
        "WARREN_AMQP_URL": stack.run.amqp_url,
        "WARREN_EDGE_PORT": str(port),
        "WARREN_DRAIN_SECONDS": "0",
    }
    log = stack.logs / f"edge-{next(iter(env)).lower()}-{port}.log"
    edge = Process(f"edge with {next(iter(env))}", ["-m", "edge"], port, log, {**inherited, **settings, **env})
    edge.spawn()
    try:
        await edge.until_ready()
        yield edge
    finally:
        await stack.terminate(edge)


async def test_rs256_with_a_public_key(people: People, stack: Stack) -> None:
    async with edge_without_secret(stack, WARREN_JWT_PUBLIC_KEY=pem(RSA_KEY)) as edge:
        await check_public_key(people, edge, RSA_KEY, "RS256")


async def test_es256_with_a_public_key(people: People, stack: Stack) -> None:
    async with edge_without_secret(stack, WARREN_JWT_PUBLIC_KEY=pem(EC_KEY)) as edge:
        await check_public_key(people, edge, EC_KEY, "ES256")


async def check_public_key(
    people: People, edge: Process, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, algorithm: str, **head: str
) -> None:
    """A token by the private key is good there; one that abuses what everybody knows, the public key, is not."""
    user_id = people.name("ada")
    good = claims(user_id)
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
        assert await refusal(people, {"token": token}, edge) == "unauthorized", what
    expired = jwt.encode({**good, "exp": int(time.time()) - 5}, key, algorithm=algorithm, headers=head)
    assert await refusal(people, {"token": expired}, edge) == "token_expired"


class KeyServer:
    """A JWK set over HTTP; what it serves can be changed."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.asked = 0
        self.url = ""

    def add(self, key_id: str, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
        """Serve a public key."""
        algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
        public: Any = key.public_key()
        self.keys.append({**algorithm.to_jwk(public, as_dict=True), "kid": key_id, "use": "sig"})


@contextmanager
def key_server() -> Iterator[KeyServer]:
    """Serve a JWK set on a port of this machine."""
    served = KeyServer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked += 1
            body = json.dumps({"keys": served.keys}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        @override
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}/keys.json"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.answers(Code.UNAUTHORIZED, Code.TOKEN_EXPIRED)
async def test_a_jwk_set_brings_keys_of_both_kinds(people: People, stack: Stack) -> None:
    # Given an edge that fetches two public keys, beside one of a kind that nobody may choose
    with key_server() as keys:
        keys.add("rsa", RSA_KEY)
        keys.add("ec", EC_KEY)
        keys.keys.append({"kty": "oct", "kid": "oct", "k": base64.urlsafe_b64encode(b"x" * 32).decode()})
        async with edge_without_secret(stack, WARREN_JWT_JWKS_URL=keys.url) as edge:
            # Then each key is good for tokens of its own algorithm that name it
            await check_public_key(people, edge, RSA_KEY, "RS256", kid="rsa")
            await check_public_key(people, edge, EC_KEY, "ES256", kid="ec")
            good = claims(people.name("ada"))
            tokens = {
                "no key named": jwt.encode(good, RSA_KEY, algorithm="RS256"),
                "the other key named": jwt.encode(good, RSA_KEY, algorithm="RS256", headers={"kid": "ec"}),
                "a symmetric key": jwt.encode(good, "x" * 32, algorithm="HS256", headers={"kid": "oct"}),
                "a key elsewhere": jwt.encode(good, RSA_KEY, algorithm="RS256", headers={"jku": keys.url}),
            }
            for what, token in tokens.items():
                assert await refusal(people, {"token": token}, edge) == "unauthorized", what
            # And tokens that name unknown keys do not make the edge hammer the server
            asked = keys.asked
            strange = [jwt.encode(good, EC_KEY, algorithm="ES256", headers={"kid": f"k{i}"}) for i in range(5)]
            refused = await asyncio.gather(*(refusal(people, {"token": token}, edge) for token in strange))
            assert set(refused) == {"unauthorized"}
            assert keys.asked <= asked + 1
