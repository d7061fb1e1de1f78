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
    views = {viewer: shown(conversation_view(stored, viewer, {"ada": ADA})) for viewer in ("ada", "bob")}

    # Then both see the same, but for what is unread
    for view in views.values():
        protocol.check(view, protocol.CONVERSATION, "conversation")
    assert (views["ada"].pop("unread_count"), views["bob"].pop("unread_count")) == (0, 3)
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


def test_a_conversation_without_a_message_shows_none() -> None:
    view = shown(conversation_view(header("ada", "bob", "cy", title="Lunch"), "ada", {}))
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
