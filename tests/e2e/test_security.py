"""Attacks of docs/security.md that no other file tries: each from outside, on running processes."""

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator

import aio_pika
import httpx
import jwt
import pymongo
import pytest
import pytest_asyncio
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from contracts.codec import decode_bundle
from contracts.commands import StartConversation
from contracts.errors import Code
from contracts.ids import direct_conversation_id, group_conversation_id
from contracts.values import MAX_PARTICIPANTS
from infra.local.stack import Stack
from infra.local.supervisor import Process
from infra.local.tenant import Tenant
from tests.support.extra_processes import extra_edge, extra_worker
from tests.support.people import People
from tests.support.raw_websocket import raw_socket
from tests.support.socketio_client import Client, Json

#: A web application's own origin, in the tests that allow one.
HOME = "https://chat.example"


# --- Origins ----------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def public_edge(stack: Stack) -> AsyncIterator[Process]:
    """An edge as it stands on the internet: not in development, and one origin is allowed."""
    public = {"WARREN_DEV": "false", "WARREN_ALLOWED_ORIGINS": json.dumps([HOME])}
    async with extra_edge(stack, public) as edge:
        yield edge


async def opens(edge: Process, origin: str | None) -> bool:
    """Whether a browser with a page of that origin gets a WebSocket; without one it is no browser."""
    url = edge.url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket"
    headers = {} if origin is None else {"Origin": origin}
    try:
        async with connect(url, additional_headers=headers, compression=None, proxy=None):
            return True
    except InvalidStatus as refused:
        if refused.response.status_code >= 500:
            raise
        return False


async def test_pages_of_the_allowed_origin_and_clients_without_one_connect(public_edge: Process) -> None:
    assert await opens(public_edge, HOME)
    assert await opens(public_edge, public_edge.url), "the edge's own origin"
    assert await opens(public_edge, None)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://chat.example",
        "https://chat.example:444",
        "https://chat.example.evil.example",
        "https://evil.example/https://chat.example",
        "https://chat.example@evil.example",
        "https://CHAT.example.",
        "http://localhost:5173",
        "http://127.0.0.1:1",
        "file://",
        "null",
        "*",
        "http://[",
        "http://[::1",
        "x" * 4_000,
    ],
)
async def test_pages_of_other_origins_get_no_socket(public_edge: Process, origin: str) -> None:
    assert not await opens(public_edge, origin)


@pytest.mark.parametrize(
    "path", ["/healthz", "/metrics", "/nothing", "/socket.io/", "/socket.io/?EIO=4&transport=websocket"]
)
async def test_every_response_tells_browsers_what_not_to_do(public_edge: Process, path: str) -> None:
    async with httpx.AsyncClient(base_url=public_edge.url, trust_env=False) as http:
        for headers in ({}, {"Origin": "http://["}, {"Origin": HOME}):
            answer = await http.get(path, headers=headers)
            assert answer.status_code < 500
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"


async def test_without_a_list_only_the_same_origin_connects(stack: Stack) -> None:
    async with extra_edge(stack, {"WARREN_DEV": "false"}) as edge:
        assert await opens(edge, edge.url)
        for origin in (HOME, "http://localhost:5173", "null"):
            assert not await opens(edge, origin)


async def test_what_is_for_development_is_not_there_in_production(public_edge: Process) -> None:
    async with httpx.AsyncClient(base_url=public_edge.url, trust_env=False) as http:
        for path in ("/dev/token", "/dev/config", "/", "/docs", "/openapi.json", "/socket.io/../dev/token"):
            for answer in (await http.post(path, json={"user_id": "ada"}), await http.get(path)):
                assert answer.status_code == 404, path
                assert "token" not in answer.text
        preflight = await http.options("/dev/token", headers={"origin": HOME, "access-control-request-method": "POST"})
        assert "access-control-allow-origin" not in preflight.headers


# --- Tokens -----------------------------------------------------------------------------------------------


@pytest.mark.answers(Code.UNAUTHORIZED)
async def test_after_a_change_of_the_secret_no_old_token_is_good(people: People, stack: Stack) -> None:
    # Given somebody with a token that is still good for an hour, and whose key has leaked
    user_id = people.name("ada")
    old = stack.token(user_id)
    await people.socket({"token": old}, 0, user_id).connect()

    # When an edge starts with another secret
    secret = "another secret of at least 32 bytes, really"
    async with extra_edge(stack, {"WARREN_JWT_SECRET": secret}) as edge:
        # Then the old token opens nothing there, and does not refresh a socket either
        assert (await people.socket({"token": old}, edge).refused())["code"] == "unauthorized"
        new = jwt.encode({"sub": user_id, "exp": int(time.time()) + 600}, secret, algorithm="HS256")
        ada = await people.socket({"token": new}, edge, user_id).connect()
        assert (await ada.error("refresh_token", token=stack.token(user_id, ttl=7_200)))["code"] == "unauthorized"


async def test_a_picture_that_is_no_web_address_is_shown_to_nobody(people: People) -> None:
    # Given tokens with pictures that are no web addresses, or long ones
    pictures: list[Json] = [
        "javascript:alert(1)",
        "data:text/html,x",
        "//evil.example",
        "https://" + "x" * 2_048,
        "https://" + "\N{GRINNING FACE}" * 511,
        7,
        {},
    ]

    # Then none is passed on
    for picture in pictures:
        ada = await people.connect(people.name("ada"), picture=picture)
        assert (await ada.push("session_ready"))["user"]["picture"] is None, picture
        await ada.close()


# --- Who may see what -------------------------------------------------------------------------------------


@pytest.mark.answers(Code.NOT_FOUND)
async def test_an_id_that_can_be_computed_gives_nothing_away(people: People) -> None:
    # Given that a direct conversation's id follows from its two people, whom anybody can find
    ada, bob, mallory = await people.arrive("ada", "bob", "mallory")
    guessed = direct_conversation_id(ada.user_id, bob.user_id)
    before = await asked_about(mallory, guessed)
    assert await people.chat(ada, bob) == guessed

    # Then mallory cannot tell whether they talk to each other
    assert await asked_about(mallory, guessed) == before
    assert {answer["code"] for answer in before} == {"not_found"}


async def test_a_groups_id_follows_from_nothing_that_a_client_knows(people: People, tenant: Tenant) -> None:
    # Given somebody who reads along what edges ask of the workers, as no client can
    ada, bob, cy = await people.arrive("ada", "bob", "cy", edges=(0,))
    connection = await aio_pika.connect(tenant.amqp_url)
    async with connection:
        channel = await connection.channel()
        tap = await channel.declare_queue(exclusive=True)
        await tap.bind("warren.commands", "start_conversation")
        # When the same group is started twice
        starts = [await ada.call("start_conversation", participant_ids=[bob.user_id, cy.user_id]) for _ in range(2)]
        bundles = [await tap.get(timeout=10) for _ in starts]
    # Then its id comes from 128 random bits, and from nothing else
    items = [item for bundle in bundles for item in decode_bundle(bundle.body)]
    nonces = [item.nonce for item in items if isinstance(item, StartConversation)]
    assert [len(bytes.fromhex(nonce)) for nonce in nonces] == [16, 16]
    assert nonces[0] != nonces[1]
    assert [group_conversation_id(nonce) for nonce in nonces] == [start["conversation"]["id"] for start in starts]


async def asked_about(client: Client, conversation_id: str) -> list[Json]:
    """The answers of every event that takes a conversation's id."""
    return [
        await client.error(event, {"conversation_id": conversation_id, **payload})
        for event, payload in (
            ("send_message", {"client_message_id": "m", "body": "hello"}),
            ("message_seen", {"seq": 1}),
            ("list_messages", {}),
            ("list_messages", {"after_seq": 0}),
            ("list_messages", {"before_seq": 5}),
            ("list_participants", {}),
            ("typing", {"typing": True}),
        )
    ]


async def test_a_cursor_of_somebody_else_leads_to_nothing_of_theirs(people: People) -> None:
    ada, bob, cy, mallory = await people.arrive("ada", "bob", "cy", "mallory")
    await people.chat(ada, bob)
    await people.chat(ada, cy)
    page = await ada.call("list_conversations", limit=1)
    stolen = await mallory.call("list_conversations", cursor=page["next_cursor"])
    assert (stolen["conversations"], stolen["next_cursor"], stolen["total_unread"]) == ([], None, 0)


#: Questions of each kind, and seconds that their medians may be apart, which a busy machine needs: a look at the
#: messages, to which only a conversation of one's own should lead, would be a round trip to the store.
TIMED, FAR_APART = 80, 0.002

MESSAGE = {"client_message_id": "m", "body": "hello"}


@pytest.mark.slow
@pytest.mark.answers(Code.NOT_FOUND)
@pytest.mark.parametrize(
    ("event", "payload", "people_in_it"),
    [
        ("list_messages", {}, 2),
        ("send_message", MESSAGE, 2),
        ("message_seen", {"seq": 1}, 2),
        ("send_message", MESSAGE, MAX_PARTICIPANTS),
    ],
)
async def test_not_yours_and_not_there_take_the_same_time(
    people: People,
    tenant: Tenant,
    event: str,
    payload: dict[str, Json],
    people_in_it: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Given a conversation of others with a history, and perhaps with a crowd in it
    ada, bob, mallory = await people.arrive("ada", "bob", "mallory", edges=(0,))
    theirs = await people.chat(ada, bob)
    for _ in range(20):
        await people.say(ada, theirs, "x" * 1_000)
    crowd = [{"user_id": people.name("crowd"), "read": {"seq": 0, "at": None}} for _ in range(people_in_it - 2)]
    with pymongo.MongoClient[dict[str, Json]](tenant.mongo_url) as mongo:
        found = mongo[tenant.database]["conversations"]
        found.update_one({"_id": theirs}, {"$push": {"participants": {"$each": crowd}}})
    seconds: dict[str, list[float]] = {theirs: [], "7e57ab1e-0000-5000-8000-000000000000": []}

    # When mallory asks for it and for one that does not exist, in turn
    for number in range(2 * TIMED):
        # In ABBA order, so that neither profits from what the other has just warmed up
        conversation_id = list(seconds)[(number + number // 2) % 2]
        started = time.perf_counter()
        assert (await mallory.error(event, {"conversation_id": conversation_id, **payload}))["code"] == "not_found"
        seconds[conversation_id].append(time.perf_counter() - started)
        await asyncio.sleep(0.02)  # under the rate limit

    # Then the times do not tell which is which
    not_yours, not_there = (statistics.median(times) * 1e3 for times in seconds.values())
    low, _, high = statistics.quantiles(seconds[theirs], n=4)
    with capsys.disabled():
        print(
            f"\n{event}, {people_in_it} people: not yours {not_yours:.2f} ms, not there {not_there:.2f} ms, "
            f"{not_yours - not_there:+.2f} ms apart; half of the first lie within {(high - low) * 1e3:.2f} ms"
        )
    assert abs(not_yours - not_there) < FAR_APART * 1e3


# --- Names and sizes --------------------------------------------------------------------------------------


async def test_the_largest_user_ids_there_are_can_chat(people: People) -> None:
    # Given ids of 128 characters of four bytes each: more than a routing key of AMQP holds, which they never become
    big = [(people.name() + "\N{OTTER}" * 128)[:128] for _ in range(2)]
    ada, bob = [await people.connect(user_id, edge) for edge, user_id in enumerate(big)]
    conversation_id = await people.chat(ada, bob)
    message = await people.say(bob, conversation_id)
    assert await ada.push("new_message", conversation_id) == {"message": message}


#: What would start a line of its own in a log, a header or a terminal.
INJECTED = 'x\r\nX-Injected: 1\r\n\r\n{"level": "CRITICAL", "message": "forged"}\n\x1b[2J\u2028'


@pytest.mark.slow
async def test_logs_hold_no_token_no_body_and_no_line_that_a_client_wrote(people: People, stack: Stack) -> None:
    # Given processes that log all they can
    debug = {"WARREN_LOG_LEVEL": "DEBUG"}
    body, user_id = f"nobody else's business {people.name()}", people.name("ada")
    good = stack.token(user_id, name=INJECTED)
    later = stack.token(user_id, ttl=7_200, name=INJECTED)
    expired, forged = stack.token(user_id, ttl=-5), jwt.encode({"sub": user_id, "exp": 2**33}, "x" * 32)
    async with extra_edge(stack, debug) as edge, extra_worker(stack, "persistence", debug) as worker:
        # When good and bad tokens come in every way, and injected text wherever there is room for text
        ada = await people.socket({"token": good}, edge, user_id).connect()
        bob = await people.connect(people.name("bob"), edge)
        await people.say(ada, await people.start(ada, bob, title=None), body)
        await ada.call("refresh_token", token=later)
        assert (await ada.error("refresh_token", token=forged))["code"] == "unauthorized"
        for token in (expired, forged, INJECTED):
            await people.socket({"token": token}, edge).refused()
        await people.socket(None, edge).refused(f"{edge.url}/?token={good}&x=%0d%0aX-Injected:%201")
        await ada.error(INJECTED, {INJECTED: INJECTED})
        await ada.error("find_users", query=INJECTED)
        async with raw_socket(edge, good) as raw:
            await raw.send(f'420["send_message",{{"body":"{body}"')
            await raw.until_closed()
        async with httpx.AsyncClient(base_url=edge.url, trust_env=False) as http:
            await http.get("/nothing", params={"token": good}, headers={"authorization": f"Bearer {good}"})
            await http.post("/dev/token", content=f'{{"user_id": {good}')
        for client in (ada, bob):
            await client.close()

    # Then no log of the whole run has a token, a signature, the secret or the body in it
    secrets = [token.split(".")[2] for token in (good, later, expired, forged)] + [stack.secret, body]
    for log in stack.logs.glob("*.log"):
        text = log.read_text()
        assert [secret for secret in secrets if secret in text] == [], log.name
        assert "eyJ" not in text, f"{log.name} holds what looks like a token"
    # And every line is one of ours, whatever clients called themselves
    for process in (edge, worker):
        lines = [json.loads(line) for line in process.log.read_text().split("\n") if line]
        assert lines
        assert {line["level"] for line in lines} <= {"DEBUG", "INFO", "WARNING"}
        assert all(line["process"] and line["logger"] for line in lines)
