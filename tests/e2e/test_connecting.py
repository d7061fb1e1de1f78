"""Connecting with a good token: `session_ready`, every kind of user id, and room for so many sockets."""

from datetime import UTC, datetime

import jwt
import pytest

from contracts.errors import Code
from infra.local.stack import Stack
from tests.support.extra_processes import extra_edge
from tests.support.forged_tokens import claims
from tests.support.people import People
from tests.support.socketio_client import ConnectRefused
from tests.support.waiting import eventually


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


# --- Room -----------------------------------------------------------------------------------------------


@pytest.mark.answers(Code.TOO_MANY_CONNECTIONS)
async def test_a_user_has_room_for_so_many_connections(people: People, stack: Stack) -> None:
    # Given an edge with room for two sockets a user and four in all, and a user with two
    room = {"WARREN_MAX_CONNECTIONS_PER_USER": "2", "WARREN_MAX_CONNECTIONS": "4"}
    async with extra_edge(stack, room) as edge:
        ada = people.name("ada")
        first, second = [await people.connect(ada, edge) for _ in range(2)]

        # When they open another, it is refused for now
        token = stack.token(ada)
        data = await people.socket({"token": token}, edge).refused()
        assert (data["code"], data["retryable"]) == ("too_many_connections", True)

        # While others still have room, until the edge is full
        others = [await people.connect(people.name("bob"), edge) for _ in range(2)]
        assert await people.refusal({"token": stack.token(people.name("cy"))}, edge) == "too_many_connections"

        # And once a socket has closed there is room again
        await first.close()

        async def admitted() -> bool:
            try:
                await people.socket({"token": token}, edge, ada).connect()
            except ConnectRefused as error:
                raise AssertionError(str(error)) from error
            return True

        await eventually(admitted, sentence="a socket that closed leaves room for another")
        assert second.is_connected
        assert all(other.is_connected for other in others)
