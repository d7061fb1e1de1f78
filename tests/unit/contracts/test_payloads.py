"""What a client may send, at the edges of each limit."""

from typing import Any

import pytest
from pydantic import model_validator

from contracts.codec import decode_payload
from contracts.commands import (
    CLIENT_EVENTS,
    FindUsersPayload,
    GetPresencePayload,
    GetUsersPayload,
    ListConversationsPayload,
    ListMessagesPayload,
    ListParticipantsPayload,
    MessageSeenPayload,
    RefreshTokenPayload,
    SendMessagePayload,
    StartConversationPayload,
    TypingPayload,
)
from contracts.errors import MAX_DETAILS, Code, Refused
from contracts.text import shown_text
from contracts.values import MAX_PARTICIPANTS, MAX_SAFE_INTEGER, Value

#: A payload of each event that is as short as it may be.
SHORTEST: dict[type[Value], dict[str, Any]] = {
    StartConversationPayload: {"participant_ids": ["a"]},
    SendMessagePayload: {"conversation_id": "c", "client_message_id": "1", "body": "x"},
    MessageSeenPayload: {"conversation_id": "c", "seq": 1},
    ListConversationsPayload: {},
    ListMessagesPayload: {"conversation_id": "c"},
    FindUsersPayload: {},
    ListParticipantsPayload: {"conversation_id": "c"},
    GetUsersPayload: {"user_ids": ["a"]},
    GetPresencePayload: {"user_ids": ["a"]},
    TypingPayload: {"conversation_id": "c", "typing": True},
    RefreshTokenPayload: {"token": "t"},
}


def taken(payload_type: type[Value], **fields: Any) -> Any:
    """The payload with these fields, all others as short as they may be."""
    return decode_payload(payload_type, {**SHORTEST[payload_type], **fields})


def refused(payload_type: type[Value], **fields: Any) -> Refused:
    with pytest.raises(Refused) as refusal:
        taken(payload_type, **fields)
    return refusal.value


def test_there_is_a_shortest_payload_of_every_event() -> None:
    assert set(SHORTEST) == set(CLIENT_EVENTS.values())
    for payload_type in SHORTEST:
        assert isinstance(taken(payload_type), payload_type)


@pytest.mark.parametrize("payload_type", SHORTEST)
def test_an_unknown_field_is_refused_by_its_name(payload_type: type[Value]) -> None:
    refusal = refused(payload_type, sender_id="mallory")
    assert refusal.code is Code.INVALID_PAYLOAD
    assert [detail["field"] for detail in refusal.error.details] == ["sender_id"]


def test_of_thousands_of_unknown_fields_few_are_looked_at() -> None:
    # Given a payload that notes how many fields its validation meets
    looked_at = []

    class Noting(TypingPayload):
        @model_validator(mode="before")
        @classmethod
        def note(cls, fields: dict[str, object]) -> dict[str, object]:
            """Note the number."""
            looked_at.append(len(fields))
            return fields

    # When a client sends as many unknown fields as an event has room for, and the known ones after them
    unknown = {f"f{number}": 0 for number in range(7_000)}
    with pytest.raises(Refused) as refusal:
        decode_payload(Noting, {**unknown, **SHORTEST[TypingPayload]})
    # Then the refusal names the first of them, and no other was validated
    assert [detail["field"] for detail in refusal.value.error.details] == list(unknown)[:MAX_DETAILS]
    assert looked_at == [len(SHORTEST[TypingPayload]) + MAX_DETAILS]


@pytest.mark.parametrize("payload_type", SHORTEST)
def test_a_missing_field_is_refused_by_its_name(payload_type: type[Value]) -> None:
    for field in SHORTEST[payload_type]:
        rest = {name: value for name, value in SHORTEST[payload_type].items() if name != field}
        with pytest.raises(Refused) as refusal:
            decode_payload(payload_type, rest)
        assert {"field": field, "reason": "Field required"} in refusal.value.error.details


# --- send_message -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", ["", " ", "\n\t ", " " * 50_000])
def test_a_body_is_trimmed_before_it_is_counted(space: str) -> None:
    assert taken(SendMessagePayload, body=f"{space}{'x' * 4000}{space}").body == "x" * 4000
    assert refused(SendMessagePayload, body=f"{space}{'x' * 4001}{space}").code is Code.TOO_LARGE


def test_characters_are_code_points() -> None:
    assert taken(SendMessagePayload, body="🦫" * 4000).body == "🦫" * 4000
    assert refused(SendMessagePayload, body="🦫" * 4001).code is Code.TOO_LARGE


@pytest.mark.parametrize("body", ["", " ", "\n\n"])
def test_a_body_of_nothing_is_no_body(body: str) -> None:
    assert refused(SendMessagePayload, body=body).code is Code.INVALID_PAYLOAD


def test_a_long_body_beside_another_mistake_is_an_invalid_payload() -> None:
    assert refused(SendMessagePayload, body="x" * 4001, client_message_id="?").code is Code.INVALID_PAYLOAD


@pytest.mark.parametrize("id", ["a", "A-Z_0-9", "x" * 64, "-", "_", "0"])
def test_a_client_message_id_is_of_its_alphabet(id: str) -> None:
    assert taken(SendMessagePayload, client_message_id=id).client_message_id == id


@pytest.mark.parametrize("id", ["", "x" * 65, "a b", "a.b", "ä", "٣", "a\n", "\na", "a\x00", "$gt", 1, None, ["a"]])
def test_a_client_message_id_of_anything_else_is_refused(id: object) -> None:
    refusal = refused(SendMessagePayload, client_message_id=id)
    assert refusal.code is Code.INVALID_PAYLOAD
    assert refusal.error.details[0]["field"] == "client_message_id"


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("  Beavers ", "Beavers"),
        ("evil\u202egpj.exe", "evilgpj.exe"),
        ("\u2066a\u2069\u200e\u200f\u061c\u202a\u202db", "ab"),
        ("red\x1b[31m\x07\x9b\x00", "red[31m"),
        ("two\nlines\tand\u2028more", "two lines and more"),
        ("half \ud83d", "half \ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        (
            "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u05d0\u05d1",
            "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u05d0\u05d1",
        ),
    ],
)
def test_a_title_has_no_controls_and_can_be_encoded(typed: str, shown: str) -> None:
    assert taken(StartConversationPayload, title=typed).title == shown
    assert shown_text(typed) == shown


# --- Ids, numbers and pages -------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["a", "x" * 128, "ada@example.org", "{'$gt': ''}", "ä 🦫", "a.b$c", " "])
def test_a_user_id_is_any_line_of_text(id: str) -> None:
    assert taken(GetPresencePayload, user_ids=[id]).user_ids == [id]
    assert taken(StartConversationPayload, participant_ids=[id]).participant_ids == [id]


@pytest.mark.parametrize(
    "id",
    [
        "",
        "x" * 129,
        "a\nb",
        "a\n",
        "\x00",
        "\x7f",
        "\x9b",
        "a\u202eb",
        "\u2066",
        "a\u2028",
        "\ud83d",
        7,
        None,
        {"$gt": ""},
    ],
)
def test_a_user_id_of_anything_else_is_refused(id: object) -> None:
    assert refused(GetPresencePayload, user_ids=["a", id]).error.details[0]["field"] == "user_ids.1"
    assert refused(StartConversationPayload, participant_ids=[id]).error.details[0]["field"] == "participant_ids.0"


@pytest.mark.parametrize(
    ("payload_type", "field", "most"),
    [(GetPresencePayload, "user_ids", 100), (StartConversationPayload, "participant_ids", MAX_PARTICIPANTS - 1)],
)
def test_a_list_of_people_has_a_shortest_and_a_longest(payload_type: type[Value], field: str, most: int) -> None:
    taken(payload_type, **{field: ["a"] * most})
    for number in (0, most + 1):
        assert refused(payload_type, **{field: ["a"] * number}).code is Code.INVALID_PAYLOAD


def test_a_refusal_names_no_more_than_twenty_fields() -> None:
    assert len(refused(GetPresencePayload, user_ids=[""] * 100).error.details) == 20


@pytest.mark.parametrize("payload_type", [ListConversationsPayload, ListMessagesPayload, FindUsersPayload])
def test_a_limit_is_one_to_a_hundred_and_fifty_if_left_out(payload_type: type[Value]) -> None:
    assert taken(payload_type).limit == 50
    assert [taken(payload_type, limit=limit).limit for limit in (1, 100)] == [1, 100]
    for limit in (0, 101, -1, 1.5, 50.0, "50", True, None):
        assert refused(payload_type, limit=limit).error.details[0]["field"] == "limit"


@pytest.mark.parametrize("seq", [0, -1, MAX_SAFE_INTEGER + 1, 1.0, "1", True, None, {"$gt": 0}])
def test_a_seq_is_a_whole_number_from_one(seq: object) -> None:
    assert taken(MessageSeenPayload, seq=MAX_SAFE_INTEGER).seq == MAX_SAFE_INTEGER
    assert refused(MessageSeenPayload, seq=seq).error.details[0]["field"] == "seq"


def test_a_page_runs_one_way() -> None:
    assert taken(ListMessagesPayload, after_seq=0).after_seq == 0
    assert taken(ListMessagesPayload, before_seq=1, after_seq=None).before_seq == 1
    assert refused(ListMessagesPayload, before_seq=0).code is Code.INVALID_PAYLOAD
    assert refused(ListMessagesPayload, before_seq=5, after_seq=1).code is Code.INVALID_PAYLOAD


@pytest.mark.parametrize("id", ["", "x" * 65, "a\nb", {"$ne": None}, 1])
def test_a_conversation_id_is_a_short_line_of_text(id: object) -> None:
    for payload_type in (SendMessagePayload, MessageSeenPayload, ListMessagesPayload, TypingPayload):
        assert refused(payload_type, conversation_id=id).error.details[0]["field"] == "conversation_id"


def test_a_title_is_trimmed_and_not_empty() -> None:
    assert taken(StartConversationPayload, title="  Beavers ").title == "Beavers"
    assert taken(StartConversationPayload, title="x" * 200).title == "x" * 200
    assert taken(StartConversationPayload, title=None).title is None
    for title in ("", "  ", "x" * 201, "\u202e\x07", 7):
        assert refused(StartConversationPayload, title=title).code is Code.INVALID_PAYLOAD


@pytest.mark.parametrize("typing", [1, 0, "true", None])
def test_typing_is_true_or_false(typing: object) -> None:
    assert refused(TypingPayload, typing=typing).code is Code.INVALID_PAYLOAD
