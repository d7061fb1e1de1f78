"""A group of 500: what it shows, what its participants are sent, and how much of it is read for that."""

import orjson
import pytest

from contracts.frames import Push
from contracts.values import MAX_PARTICIPANTS, MAX_SEEN_PARTICIPANTS, SHOWN_PARTICIPANTS
from infra.store.client import Store
from tests.support import protocol
from tests.support.command_counter import CommandCounter
from tests.support.handlers import acks, conversation, pushes
from tests.support.sample_commands import get_users, list_conversations, list_participants, seen, send, start
from tests.support.socketio_client import Json
from workers.history import History
from workers.persistence import Persistence
from workers.unread import Unread

#: The one who starts the group, and the others in the order in which they join.
PEOPLE = ["ada", *(f"friend-{number:03}" for number in range(MAX_PARTICIPANTS - 1))]
LAST = PEOPLE[-1]


def shown(push: Push) -> Json:
    """The conversation in a push, checked against the protocol."""
    view = orjson.loads(push.payload)["conversation"]
    protocol.check(view, protocol.CONVERSATION, "conversation")
    return view


async def participants(store: Store, by: str, chat: str, **page: object) -> Json:
    """The data of an ack of `list_participants`."""
    command = list_participants(by, chat, **page)
    data = acks(await History(store)([command]))[command.request]["data"]
    protocol.check(data, protocol.ACKS["list_participants"], "list_participants")
    return data


async def test_a_group_of_500_shows_its_first_20_and_costs_no_more_than_that(
    store: Store, counter: CommandCounter
) -> None:
    # Given a group of 500, and its first message
    chat = await conversation(store, *PEOPLE, opened_by_all=False)
    counter.take_reads()
    effects = await Persistence(store)([send("ada", chat, "m1")])

    # Then everybody gets one of two views: who has read the message, and who has not
    views = {tuple(push.to): shown(push) for push in pushes(effects, "conversation_updated")}
    assert {len(to): (view["last_read_seq"], view["unread_count"]) for to, view in views.items()} == {
        1: (1, 0),
        MAX_PARTICIPANTS - 1: (0, 1),
    }
    for view in views.values():
        assert [part["user"]["id"] for part in view["participants"]] == PEOPLE[:SHOWN_PARTICIPANTS]
        assert view["participant_count"] == MAX_PARTICIPANTS
    # And no more users were read than are shown
    assert counter.take_reads()["users"] <= SHOWN_PARTICIPANTS

    # When the last who joined lists conversations
    command = list_conversations(LAST)
    data = acks(await History(store)([command]))[command.request]["data"]

    # Then it is the same, and the store has sent no more than that
    (view,) = data["conversations"]
    assert view == views[tuple(PEOPLE[1:])]
    reads = counter.take_reads()
    assert (reads["users"], reads["participants"]) == (SHOWN_PARTICIPANTS, SHOWN_PARTICIPANTS)


async def test_all_participants_come_page_by_page_in_the_order_in_which_they_joined(
    store: Store, counter: CommandCounter
) -> None:
    # Given a group of 30, of whom one has read a message
    people = PEOPLE[:30]
    chat = await conversation(store, *people, opened_by_all=False)
    await Persistence(store)([send("ada", chat, "m1")])

    # When its participants are read, twelve at a time
    pages = [await participants(store, people[-1], chat, limit=12)]
    while cursor := pages[-1]["next_cursor"]:
        counter.take_reads()
        pages.append(await participants(store, people[-1], chat, limit=12, cursor=cursor))
        # Then each page reads its own users
        assert counter.take_reads()["users"] == len(pages[-1]["participants"])

    # And all are there in order, each with what that user has read
    assert [len(page["participants"]) for page in pages] == [12, 12, 6]
    found = [part for page in pages for part in page["participants"]]
    assert [part["user"] for part in found] == [{"id": id, "name": id.title(), "picture": None} for id in people]
    assert [part["last_read_seq"] for part in found] == [1] + [0] * 29
    # And a page that just holds everybody has no next one
    assert (await participants(store, "ada", chat, limit=30))["next_cursor"] is None


async def test_participants_are_listed_for_participants_only(store: Store) -> None:
    # Given a group without a message, and one that does not exist
    chat = await conversation(store, *PEOPLE[:3], opened_by_all=False)
    commands = {
        "starter": list_participants("ada", chat),
        "invited": list_participants(PEOPLE[1], chat),
        "stranger": list_participants("mallory", chat),
        "nowhere": list_participants("ada", "nowhere"),
        "forged": list_participants("ada", chat, cursor="AAAA"),
        "other": list_participants("ada", chat, cursor="MjAyNi0wMS0wMVQwMDowMDowMC4wMDBaIHg"),
        "beyond": list_participants("ada", chat, cursor="OTk5OQ"),
    }

    # When people ask for its participants
    answers = acks(await History(store)(list(commands.values())))
    answer = {name: answers[command.request] for name, command in commands.items()}

    # Then only the one who started it may see them, and only the server's cursors count
    assert len(answer["starter"]["data"]["participants"]) == 3
    codes = {name: answer[name]["error"]["code"] for name in ("invited", "stranger", "nowhere", "forged", "other")}
    assert codes == dict.fromkeys(("invited", "stranger", "nowhere"), "not_found") | dict.fromkeys(
        ("forged", "other"), "invalid_payload"
    )
    assert answer["beyond"]["data"] == {"participants": [], "next_cursor": None}


async def test_users_are_named_by_their_ids_without_those_who_were_never_seen(store: Store) -> None:
    await conversation(store, "ada", "bob")
    command = get_users("ada", "bob", "nobody", "ada", "bob")
    data = acks(await History(store)([command]))[command.request]["data"]
    protocol.check(data, protocol.ACKS["get_users"], "get_users")
    assert [(user["id"], user["name"], user["online"]) for user in data["users"]] == [
        ("bob", "Bob", True),
        ("ada", "Ada", True),
    ]


@pytest.mark.parametrize(("size", "hear"), [(MAX_SEEN_PARTICIPANTS, True), (MAX_SEEN_PARTICIPANTS + 1, False)])
async def test_read_marks_are_not_pushed_in_groups_of_more_than_100(store: Store, size: int, hear: bool) -> None:
    # Given a group with a message
    chat = await conversation(store, *PEOPLE[:size], opened_by_all=False)
    await Persistence(store)([send("ada", chat, "m1")])

    # When somebody reads it
    effects = await Unread(store)([seen(PEOPLE[1], chat, 1)])

    # Then the others hear of it, unless they are too many; whoever read it does in any case
    heard = [push.to for push in pushes(effects, "message_seen")]
    assert heard == ([[id for id in PEOPLE[:size] if id != PEOPLE[1]]] if hear else [])
    assert [push.to for push in pushes(effects, "unread_updated")] == [[PEOPLE[1]]]


async def test_a_direct_conversation_is_shown_to_either_who_starts_it_as_its_reader(store: Store) -> None:
    # Given a direct conversation with a message
    chat = await conversation(store, "ada", "bob", opened_by_all=False)
    await Persistence(store)([send("ada", chat, "m1")])

    # When both start it again, in one batch
    commands = [start("ada", "bob"), start("bob", "ada")]
    answers = acks(await Persistence(store)(list(commands)))
    views = [answers[command.request]["data"]["conversation"] for command in commands]

    # Then each gets it with what is their own
    assert [(view["id"], view["last_read_seq"], view["unread_count"]) for view in views] == [(chat, 1, 0), (chat, 0, 1)]
