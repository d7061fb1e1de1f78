"""`find_users`, `get_presence`, `typing` and `presence_updated`: who is there, and who is told."""

import asyncio
import time

import pytest

from contracts.errors import Code
from infra.local.stack import Stack
from tests.support.extra_processes import extra_edge
from tests.support.people import People
from tests.support.socketio_client import Client, Json
from tests.support.waiting import eventually

#: Seconds that a user who reloads has, and until which a clean close must show; promise 9.
RELOAD, CLEAN_CLOSE, KILLED = 5.0, 10.0, 30.0


async def presence_of(asking: Client, user_id: str) -> Json:
    """One user's presence, as `get_presence` says it."""
    return (await asking.call("get_presence", user_ids=[user_id]))["presence"][0]


# --- find_users and get_presence --------------------------------------------------------------------------


async def test_users_are_found_by_the_start_of_any_word_of_their_name(people: People) -> None:
    # Given two users with names of their own
    word = people.name("w").replace("-", "")
    ada = await people.connect(people.name("ada"), name=f"Ada {word}Lovelace", picture="https://pictures.test/a.png")
    bob = await people.connect(people.name("bob"), edge=1, name=f"Bob {word}Kahn")

    # When one searches for the start of a word
    found = (await bob.call("find_users", query=f"  {word.upper()}love  "))["users"]

    # Then those are found whose names have words that start so, all of them
    assert found == [
        {
            "id": ada.user_id,
            "name": f"Ada {word}Lovelace",
            "picture": "https://pictures.test/a.png",
            "online": True,
            "last_seen_at": found[0]["last_seen_at"],
        }
    ]
    assert (await bob.call("find_users", query=f"{word}love ada"))["users"] == found
    assert (await bob.call("find_users", query=f"{word}love bob"))["users"] == []
    assert (await bob.call("find_users", query=f"x{word}"))["users"] == []


async def test_a_search_never_finds_the_one_who_searches(people: People) -> None:
    word = people.name("w").replace("-", "")
    ada, bob = [await people.connect(people.name(label), name=f"{word} {label}") for label in ("ada", "bob")]
    assert [user["id"] for user in (await ada.call("find_users", query=word))["users"]] == [bob.user_id]


async def test_a_search_takes_a_limit_and_means_its_characters_literally(people: People) -> None:
    word = people.name("w").replace("-", "")
    asking, *_ = [await people.connect(people.name("user"), name=f"{word} .*[a {i}") for i in range(4)]
    assert len((await asking.call("find_users", query=word))["users"]) == 3
    assert len((await asking.call("find_users", query=word, limit=2))["users"]) == 2
    assert len((await asking.call("find_users", query=f"{word} .*[a"))["users"]) == 3
    assert (await asking.call("find_users", query=f"{word} .+"))["users"] == []
    assert (await asking.call("find_users", query=f"{word[:-1]}."))["users"] == []


async def test_everybody_is_found_without_a_query(people: People) -> None:
    ada, _ = await people.arrive("ada", "bob")
    users = (await ada.call("find_users"))["users"]
    assert users
    assert ada.user_id not in [user["id"] for user in users]


async def test_presence_is_told_for_each_user_asked_for_once_and_in_that_order(people: People) -> None:
    ada, bob = await people.arrive("ada", "bob")
    nobody = people.name("nobody")

    answer = await ada.call("get_presence", user_ids=[nobody, bob.user_id, nobody])

    assert [(one["user_id"], one["online"]) for one in answer["presence"]] == [(nobody, False), (bob.user_id, True)]
    assert answer["presence"][0]["last_seen_at"] is None


@pytest.mark.answers(Code.INVALID_PAYLOAD)
async def test_presence_is_asked_for_1_to_100_users(people: People) -> None:
    (ada,) = await people.arrive("ada")
    assert len((await ada.call("get_presence", user_ids=[f"user-{i}" for i in range(100)]))["presence"]) == 100
    for wrong in ([], [f"user-{i}" for i in range(101)], "user", [1], [""], [None]):
        error = await ada.error("get_presence", user_ids=wrong)
        assert error["code"] == "invalid_payload"
        assert error["details"][0]["field"].startswith("user_ids")


# --- typing -----------------------------------------------------------------------------------------------


async def test_typing_reaches_the_other_participants_only(people: People) -> None:
    # Given a group whose members have several sockets, and a stranger
    ada, bob, cy, stranger = await people.arrive("ada", "bob", "cy", "stranger")
    adas_phone = await people.connect(ada.user_id, edge=1)
    bobs_phone = await people.connect(bob.user_id, edge=0)
    conversation_id = await people.chat(ada, bob, cy)

    # When one types and stops
    for typing in (True, False):
        assert await ada.call("typing", conversation_id=conversation_id, typing=typing) == {}

    # Then each socket of the others is told both
    for client in (bob, bobs_phone, cy):
        for typing in (True, False):
            pushed = await client.push("typing", conversation_id, typing=typing)
            assert pushed == {"conversation_id": conversation_id, "user_id": ada.user_id, "typing": typing}
    # And nobody else is: not the other sockets of the one who types, and no stranger
    await people.settle(ada, adas_phone, stranger)
    for client in (ada, adas_phone, stranger):
        assert "typing" not in client.names(conversation_id)


# --- presence_updated -------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_two_devices_on_two_edges_are_offline_only_after_both_have_closed(people: People) -> None:
    # Given a user on both edges, somebody who shares a conversation with them, and somebody who does not
    ada, bob = await people.arrive("ada", "bob")
    phone = await people.connect(bob.user_id, edge=0)
    await people.chat(ada, bob)
    stranger, cy = await people.arrive("stranger", "cy")
    await people.chat(stranger, cy)

    # When one device closes and its edge has had the time to report it
    await bob.close()
    await outlast_the_grace(people, ada)
    # Then they are still online
    assert "presence_updated" not in ada.names()
    assert (await presence_of(ada, bob.user_id))["online"] is True

    # When the other closes too
    closed = time.monotonic()
    await phone.close()
    # Then they are offline within the bound, and those who share a conversation are told
    # (The presence of who came and went within seconds is pushed again meanwhile)
    pushed = await ada.push("presence_updated", user_id=bob.user_id, within=CLEAN_CLOSE)
    assert time.monotonic() - closed < CLEAN_CLOSE
    assert pushed["online"] is False
    assert pushed["last_seen_at"] is not None
    assert await presence_of(stranger, bob.user_id) == pushed
    word = bob.user_id
    assert word not in [user["id"] for user in (await ada.call("find_users", query=word, online_only=True))["users"]]
    assert [user["id"] for user in (await ada.call("find_users", query=word))["users"]] == [word]

    # When they come back, on one device and then on another
    ada.mark()
    await people.connect(bob.user_id, edge=1)
    back = await ada.push("presence_updated", user_id=bob.user_id, online=True)
    assert (back["user_id"], back["online"]) == (bob.user_id, True)
    await people.connect(bob.user_id, edge=0)
    await people.settle(ada)
    # Then nothing else is told of them: a push may come twice, with the same state
    told = [push.payload for push in ada.since_mark() if push.name == "presence_updated"]
    assert {payload["online"] for payload in told if payload["user_id"] == bob.user_id} == {True}
    # And who shares no conversation was told nothing at all
    assert bob.user_id not in [push.payload["user_id"] for push in stranger.pushes if push.name == "presence_updated"]


@pytest.mark.slow
async def test_a_reload_shows_no_flicker(people: People) -> None:
    # Given two who share a conversation
    ada, bob = await people.arrive("ada", "bob")
    await people.chat(ada, bob)

    # When one of them reloads, on the same edge and then on the other
    for edge in (1, 0, 1):
        await bob.close()
        bob = await people.connect(bob.user_id, edge=edge)
    await outlast_the_grace(people, ada)

    # Then nobody noticed
    assert "presence_updated" not in ada.names()
    assert (await presence_of(ada, bob.user_id))["online"] is True


@pytest.mark.slow
async def test_users_of_a_killed_edge_are_offline_within_their_bound(people: People, stack: Stack) -> None:
    # Given an edge that holds a silent user, one who is written to, and one who has a second device elsewhere
    async with extra_edge(stack) as edge:
        ada = await people.connect(people.name("ada"))
        silent, busy, lucky = [await people.connect(people.name(label), edge) for label in ("silent", "busy", "lucky")]
        await people.connect(lucky.user_id, edge=1)
        conversation_id = await people.chat(ada, busy)
        for other in (silent, lucky):
            await people.chat(ada, other)
        ada.mark()

        # When the edge is killed, and messages go on
        killed = time.monotonic()
        await stack.kill(edge)
        while "presence_updated" not in ada.names() and time.monotonic() - killed < KILLED:
            await people.say(ada, conversation_id)
            await asyncio.sleep(0.5)

        # Then who is nowhere else is offline within 30 seconds, and who has a second device stays online
        for user_id in (silent.user_id, busy.user_id):
            remaining = KILLED - (time.monotonic() - killed)
            pushed = await ada.push("presence_updated", user_id=user_id, within=remaining)
            assert pushed["online"] is False
        assert (await presence_of(ada, lucky.user_id))["online"] is True
        assert lucky.user_id not in [
            push.payload["user_id"] for push in ada.since_mark() if push.name == "presence_updated"
        ]

    # And whoever connects elsewhere is back at once
    await people.connect(silent.user_id, edge=0)
    back = await ada.push("presence_updated", user_id=silent.user_id, online=True)
    assert back["online"] is True


@pytest.mark.slow
async def test_users_of_an_edge_that_stops_are_told_to_move_and_are_offline_unless_they_do(
    people: People, stack: Stack
) -> None:
    # Given an edge with two users
    async with extra_edge(stack, {"WARREN_DRAIN_SECONDS": "1"}) as edge:
        ada = await people.connect(people.name("ada"))
        stays_away, moves = [await people.connect(people.name(label), edge) for label in ("bob", "cy")]
        for other in (stays_away, moves):
            await people.chat(ada, other)
        ada.mark()

        # When it is told to stop
        stopping = asyncio.create_task(stack.terminate(edge))

        # Then it says so to its sockets, closes them, and ends well
        hint = await moves.push("server_draining")
        assert 0 <= hint["reconnect_after_ms"] <= 1000
        await moves.until_closed()
        await people.connect(moves.user_id, edge=1)
        assert await stopping == 0
    # And who moved never was away, while who did not is offline
    pushed = await ada.push("presence_updated", user_id=stays_away.user_id, within=CLEAN_CLOSE)
    assert pushed["online"] is False
    await people.settle(ada)
    told = [push.payload["user_id"] for push in ada.since_mark() if push.name == "presence_updated"]
    assert moves.user_id not in told
    assert (await presence_of(ada, moves.user_id))["online"] is True


async def outlast_the_grace(people: People, watching: Client) -> None:
    """Wait until whatever closed before this call would have been shown to `watching` as offline.

    A newcomer who shares a conversation with them leaves now; everybody who left before is announced before.
    """
    newcomer = await people.connect(people.name("leaver"))
    await people.say(newcomer, await people.start(newcomer, watching))
    await newcomer.close()
    await watching.push(
        "presence_updated",
        user_id=newcomer.user_id,
        online=False,
        within=CLEAN_CLOSE,
    )
    watching.pushes[:] = [push for push in watching.pushes if push.payload.get("user_id") != newcomer.user_id]


async def test_everybody_may_ask_for_presence_until_it_changes(people: People) -> None:
    ada = await people.connect(people.name("ada"))
    user_id = people.name("bob")
    assert (await presence_of(ada, user_id))["online"] is False
    await people.connect(user_id, edge=1)

    async def online() -> bool:
        return bool((await presence_of(ada, user_id))["online"])

    await eventually(online, sentence="somebody who connected is online")
