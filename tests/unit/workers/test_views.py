"""Views: what clients see of what is stored, checked against the protocol's own tables."""

from datetime import timedelta
from typing import Any

import orjson
import pytest

from contracts.values import Value
from infra.store.messages import StoredMessage
from tests.support import protocol
from tests.unit.workers.fakes import NOW, header
from workers.views import conversation_view, found_user_view, message_view, presence_view, user_view

#: The fields of a conversation that are its reader's own.
OWN = ("last_read_seq", "last_read_at", "unread_count")
TIME = "2026-01-31T12:30:00.123Z"
ADA = {
    "_id": "ada",
    "name": "Ada",
    "picture": "https://pictures.test/a.png",
    "online": True,
    "last_seen_at": NOW,
    "blocked": True,
    "search_words": ["ada"],
}


def shown(view: Value) -> Any:
    """A view as it goes over the wire."""
    return orjson.loads(view.model_dump_json())


def test_a_message_is_shown_with_every_field_of_the_protocol() -> None:
    # When a stored message is shown
    view = shown(message_view(StoredMessage("m1", "c1", 7, "ada", "cm1", "hello 😀", NOW)))

    # Then it has the fields of the protocol and no others
    protocol.check(view, protocol.MESSAGE, "message")
    assert view == {
        "id": "m1",
        "conversation_id": "c1",
        "seq": 7,
        "sender_id": "ada",
        "client_message_id": "cm1",
        "body": "hello 😀",
        "sent_at": TIME,
    }


def test_a_conversation_is_shown_as_its_viewer_counts_it() -> None:
    # Given a conversation of three messages, of which its initiator has read all and the other none
    stored = header("ada", "bob", last_seq=3)
    views = {reader: shown(conversation_view(stored.summary(reader), {"ada": ADA})) for reader in ("ada", "bob")}

    # Then both see the same, but for what they have read
    for view in views.values():
        protocol.check(view, protocol.CONVERSATION, "conversation")
    own = {reader: [view.pop(field) for field in OWN] for reader, view in views.items()}
    assert own == {"ada": [3, TIME, 0], "bob": [0, None, 3]}
    assert views["ada"] == views["bob"]
    view = views["bob"]
    assert (view["last_seq"], view["last_message"]["seq"], view["last_message"]["preview"]) == (3, 3, "hello")
    ada, bob = view["participants"]
    assert ada == {
        "user": {"id": "ada", "name": "Ada", "picture": "https://pictures.test/a.png"},
        "online": True,
        "last_seen_at": TIME,
        "last_read_seq": 3,
        "last_read_at": TIME,
    }
    assert (bob["user"]["name"], bob["online"], bob["last_seen_at"], bob["last_read_at"]) == ("bob", False, None, None)


def test_a_large_group_shows_who_joined_first_and_how_many_there_are() -> None:
    # Given a group of 30, and a reader who joined last
    people = [f"u{number:02}" for number in range(30)]
    stored = header(*people, last_seq=3)
    view = shown(conversation_view(stored.summary("u29"), {}))

    # Then the first 20 are shown, and beside them the number of all and what is the reader's own
    protocol.check(view, protocol.CONVERSATION, "conversation")
    assert [part["user"]["id"] for part in view["participants"]] == people[: protocol.SHOWN]
    assert (view["participant_count"], [view[field] for field in OWN]) == (30, [0, None, 3])


def test_a_conversation_without_a_message_shows_none() -> None:
    view = shown(conversation_view(header("ada", "bob", "cy", title="Lunch").summary("ada"), {}))
    protocol.check(view, protocol.CONVERSATION, "conversation")
    assert (view["kind"], view["title"], view["last_seq"], view["last_message"]) == ("group", "Lunch", 0, None)


@pytest.mark.parametrize("document", [None, {}, {"_id": "ada"}, {"_id": "ada", "name": "", "picture": None}])
def test_a_user_whom_little_is_known_of_is_called_by_their_id(document: Any) -> None:
    assert shown(user_view("ada", document)) == {"id": "ada", "name": "ada", "picture": None}


def test_nothing_of_a_user_is_shown_but_what_the_protocol_says() -> None:
    protocol.check(shown(user_view("ada", ADA)), protocol.USER, "user")
    found = shown(found_user_view(ADA))
    assert found == {
        "id": "ada",
        "name": "Ada",
        "picture": "https://pictures.test/a.png",
        "online": True,
        "last_seen_at": TIME,
    }


@pytest.mark.parametrize("document", [None, {}, {"_id": "ada", "last_seen_at": None}])
def test_whoever_was_never_seen_is_offline(document: Any) -> None:
    view = shown(presence_view("ada", document))
    protocol.check(view, protocol.PRESENCE, "presence")
    assert view == {"user_id": "ada", "online": False, "last_seen_at": None}


def test_presence_says_since_when_in_utc_with_milliseconds() -> None:
    document = {"_id": "ada", "online": False, "last_seen_at": NOW + timedelta(microseconds=999)}
    assert shown(presence_view("ada", document)) == {"user_id": "ada", "online": False, "last_seen_at": TIME}
