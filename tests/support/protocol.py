"""The protocol's tables as values: the exact keys and types of every ack and push.

Written from the protocol's page and from nothing else, so that a change of `contracts/` alone is noticed. A shape
is a type, a dict of exactly these keys, a one-element list, or a function that raises AssertionError.
"""

import re
from collections.abc import Callable
from typing import Any

Json = Any
Shape = type | dict[str, Any] | list[Any] | Callable[[Json, str], None]

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def check(value: Json, shape: Shape, path: str) -> None:
    """Raise AssertionError with a sentence unless the value has exactly this shape."""
    if isinstance(shape, dict):
        assert isinstance(value, dict), f"{path} is {value!r}, not an object"
        assert set(value) == set(shape), f"{path} has the keys {sorted(value)}, not {sorted(shape)}"
        for key, part in shape.items():
            check(value[key], part, f"{path}.{key}")
    elif isinstance(shape, list):
        assert isinstance(value, list), f"{path} is {value!r}, not a list"
        for index, item in enumerate(value):
            check(item, shape[0], f"{path}[{index}]")
    elif isinstance(shape, type):
        assert type(value) is shape, f"{path} is {value!r}, not of type {shape.__name__}"
    else:
        shape(value, path)


def time(value: Json, path: str) -> None:
    """RFC 3339 in UTC with milliseconds."""
    assert isinstance(value, str), f"{path} is {value!r}, not a time"
    assert _TIME.fullmatch(value), f"{path} is {value!r}, not RFC 3339 in UTC with milliseconds"


def nullable(shape: Shape) -> Shape:
    """The shape, or null."""

    def either(value: Json, path: str) -> None:
        if value is not None:
            check(value, shape, path)

    return either


def one_of(*values: str) -> Shape:
    """One of these texts."""

    def among(value: Json, path: str) -> None:
        assert value in values, f"{path} is {value!r}, not one of {values}"

    return among


def count(value: Json, path: str) -> None:
    """A whole number that is not negative."""
    check(value, int, path)
    assert value >= 0, f"{path} is {value}, less than nothing"


USER: Shape = {"id": str, "name": str, "picture": nullable(str)}
MESSAGE: Shape = {
    "id": str,
    "conversation_id": str,
    "seq": count,
    "sender_id": str,
    "client_message_id": str,
    "body": str,
    "sent_at": time,
}
PARTICIPANT: Shape = {
    "user": USER,
    "online": bool,
    "last_seen_at": nullable(time),
    "last_read_seq": count,
    "last_read_at": nullable(time),
}
#: Participants that a conversation shows at most.
SHOWN = 20
CONVERSATION: Shape = {
    "id": str,
    "kind": one_of("direct", "group"),
    "title": nullable(str),
    "created_by": str,
    "created_at": time,
    "updated_at": time,
    "last_seq": count,
    "last_read_seq": count,
    "last_read_at": nullable(time),
    "unread_count": count,
    "last_message": nullable({"id": str, "seq": count, "sender_id": str, "preview": str, "sent_at": time}),
    "participant_count": count,
    "participants": [PARTICIPANT],
}
FOUND_USER: Shape = {
    "id": str,
    "name": str,
    "picture": nullable(str),
    "online": bool,
    "last_seen_at": nullable(time),
}
UNREAD: Shape = {
    "conversation_id": str,
    "unread_count": count,
    "last_seq": count,
    "last_read_seq": count,
    "last_read_at": nullable(time),
    "total_unread": count,
    "total_version": count,
}
PRESENCE: Shape = {"user_id": str, "online": bool, "last_seen_at": nullable(time)}


def limits(value: Json, path: str) -> None:
    """Numbers by name; the protocol does not fix which."""
    assert isinstance(value, dict), f"{path} is {value!r}, not an object"
    for name, number in value.items():
        count(number, f"{path}.{name}")


#: Data of each event's ack.
ACKS: dict[str, Shape] = {
    "start_conversation": {"conversation": CONVERSATION},
    "send_message": {"message": MESSAGE},
    "message_seen": UNREAD,
    "list_conversations": {
        "conversations": [CONVERSATION],
        "next_cursor": nullable(str),
        "total_unread": count,
        "total_version": count,
    },
    "list_messages": {"messages": [MESSAGE], "has_more": bool},
    "list_participants": {"participants": [PARTICIPANT], "next_cursor": nullable(str)},
    "find_users": {"users": [FOUND_USER]},
    "get_users": {"users": [FOUND_USER]},
    "get_presence": {"presence": [PRESENCE]},
    "typing": {},
    "refresh_token": {"expires_at": time},
}

#: Payload of each push.
PUSHES: dict[str, Shape] = {
    "session_ready": {"user": USER, "edge_id": str, "server_time": time, "limits": limits},
    "conversation_updated": {"conversation": CONVERSATION},
    "new_message": {"message": MESSAGE},
    "unread_updated": UNREAD,
    "message_seen": {
        "conversation_id": str,
        "user_id": str,
        "last_read_seq": count,
        "last_read_at": nullable(time),
    },
    "presence_updated": PRESENCE,
    "typing": {"conversation_id": str, "user_id": str, "typing": bool},
    "server_draining": {"reconnect_after_ms": count},
}

#: Every error code, and whether trying again may help.
RETRYABLE: dict[str, bool] = {
    "unauthorized": False,
    "token_expired": False,
    "not_verified": False,
    "too_many_connections": True,
    "invalid_payload": False,
    "unknown_event": False,
    "too_large": False,
    "not_found": False,
    "user_not_found": False,
    "forbidden": False,
    "rate_limited": True,
    "unavailable": True,
    "timeout": True,
    "internal": True,
}

_ERROR: Shape = {"code": str, "message": str, "retryable": bool, "retry_after_ms": count, "details": [dict]}


def check_error(error: Json, path: str) -> None:
    """An error of an ack: exact keys, a code of the table, its `retryable`, and words for people."""
    check(error, _ERROR, path)
    code = error["code"]
    assert code in RETRYABLE, f"{path} has the code {code}, which is not in the table"
    assert error["retryable"] is RETRYABLE[code], f"{path}: {code} says retryable {error['retryable']}"
    assert error["message"], f"{path}: {code} has no words for people"
    if code == "rate_limited":
        assert error["retry_after_ms"] > 0, f"{path}: rate_limited does not say when to come back"
    if code == "invalid_payload":
        assert error["details"], f"{path}: invalid_payload does not name a field"
        for detail in error["details"]:
            assert detail.get("field"), f"{path}: a detail of invalid_payload names no field: {detail}"
            assert detail.get("reason"), f"{path}: a detail of invalid_payload does not say why: {detail}"


def check_refusal(data: Json) -> None:
    """The data of a `connect_error`."""
    check(data, {"code": str, "message": str, "retryable": bool}, "connect_error")
    assert data["code"] in RETRYABLE, f"connect_error has the code {data['code']}, which is not in the table"
    assert data["retryable"] is RETRYABLE[data["code"]], f"connect_error: {data}"


def check_ack(event: str, ack: Json) -> None:
    """An ack as the protocol's page shows it, ok or not."""
    path = f"ack of {event}"
    assert isinstance(ack, dict), f"{path} is {ack!r}, not an object"
    if ack.get("ok") is True:
        assert event in ACKS, f"{path} is ok, yet there is no such event"
        check(ack, {"ok": bool, "data": ACKS[event]}, path)
    else:
        check(ack, {"ok": bool, "error": dict}, path)
        check_error(ack["error"], path)


def check_push(name: str, arguments: tuple[Json, ...]) -> None:
    """A push of the table with exactly its one payload."""
    assert name in PUSHES, f"pushed {name}, which is not in the table"
    assert len(arguments) == 1, f"pushed {name} with {len(arguments)} payloads"
    check(arguments[0], PUSHES[name], name)
