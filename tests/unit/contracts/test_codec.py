"""What is written can be read again, and nothing else can."""

import json
from typing import Any, get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.acks import LeaseRenewed, Nothing
from contracts.codec import (
    Item,
    SocketJSON,
    ack_outcome,
    decode_bundle,
    decode_frame,
    decode_ok,
    decode_payload,
    encode_bundle,
    encode_error,
    encode_frame,
    encode_ok,
    encode_refusal,
)
from contracts.commands import (
    CLIENT_EVENTS,
    FindUsersPayload,
    ListConversations,
    ListConversationsPayload,
    MessageSeen,
    MessageSeenPayload,
    SendMessage,
    SendMessagePayload,
    Typing,
    TypingPayload,
)
from contracts.errors import Code, DecodeError, Error, Refused, not_found
from contracts.facts import MessageStored
from contracts.frames import Frame, Push, Reply
from contracts.pushes import PushName
from contracts.reports import MAX_GRACE_MS, LeaseRenew, SessionClose, SessionOpen, SessionsDrop
from contracts.values import MAX_SAFE_INTEGER, Value

#: Text as a client may send it: anything that UTF-8 can carry.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
user_ids = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=128)
bodies = texts.filter(lambda text: 0 < len(text.strip()) <= 4000).map(str.strip)
numbers = st.integers(min_value=1, max_value=MAX_SAFE_INTEGER)
moments = st.integers(min_value=0, max_value=253_402_300_799_999)
edge_ids = st.from_regex(r"[A-Za-z0-9_.-]{1,100}", fullmatch=True)
sids = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=64)
asked = {"edge_id": edge_ids, "request": numbers, "at": moments}
by_client = {**asked, "user_id": user_ids, "sid": sids}
conversation_ids = st.text("0123456789abcdef-", min_size=1, max_size=64)

sends = st.builds(
    SendMessage,
    **by_client,
    payload=st.builds(
        SendMessagePayload,
        conversation_id=conversation_ids,
        client_message_id=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
        body=bodies,
    ),
)
items: st.SearchStrategy[Item] = st.one_of(
    sends,
    st.builds(
        MessageSeen, **by_client, payload=st.builds(MessageSeenPayload, conversation_id=conversation_ids, seq=numbers)
    ),
    st.builds(
        Typing, **by_client, payload=st.builds(TypingPayload, conversation_id=conversation_ids, typing=st.booleans())
    ),
    st.builds(ListConversations, **by_client, payload=st.builds(ListConversationsPayload)),
    st.builds(
        SessionOpen,
        **asked,
        epoch=numbers,
        version=numbers,
        user_id=user_ids,
        user_name=texts,
        picture=st.none() | texts,
    ),
    st.builds(
        SessionClose, **asked, epoch=numbers, version=numbers, user_id=user_ids, grace_ms=st.integers(0, MAX_GRACE_MS)
    ),
    st.builds(LeaseRenew, **asked, epoch=numbers),
    st.builds(SessionsDrop, **asked, epoch=numbers),
    st.builds(
        MessageStored,
        conversation_id=conversation_ids,
        seq=numbers,
        sender_id=user_ids,
        sender_was_behind=st.booleans(),
    ),
)
pushes = st.sampled_from(get_args(PushName))
frames = st.builds(
    Frame,
    source=texts,
    number=numbers,
    replies=st.lists(st.builds(Reply, request=numbers, ack=texts)),
    pushes=st.lists(st.builds(Push, event=pushes, payload=texts, to=st.lists(user_ids), except_sid=st.none() | texts)),
)


@given(st.lists(items, max_size=5))
def test_a_bundle_comes_back_as_it_was(bundle: list[Item]) -> None:
    assert decode_bundle(encode_bundle(bundle)) == bundle


@given(frames)
def test_a_frame_comes_back_as_it_was(frame: Frame) -> None:
    assert decode_frame(encode_frame(frame)) == frame


@given(sends)
def test_a_command_built_without_checks_is_written_like_one_that_was_checked(command: SendMessage) -> None:
    unchecked = SendMessage.model_construct(**{name: getattr(command, name) for name in SendMessage.model_fields})
    assert encode_bundle([unchecked]) == encode_bundle([command])


@given(st.binary(max_size=200))
def test_bytes_that_are_nothing_of_ours_are_refused_and_kept(body: bytes) -> None:
    for decode in (decode_bundle, decode_frame):
        with pytest.raises(DecodeError) as refused:
            decode(body)
        assert refused.value.body == body
        assert str(refused.value)


def bundle_of(**changes: Any) -> dict[str, Any]:
    item = {"name": "lease.renew", "edge_id": "e", "request": 1, "at": 2, "epoch": 3, **changes}
    return {"v": 1, "items": [item]}


@pytest.mark.parametrize(
    "bundle",
    [
        {**bundle_of(), "extra": 1},
        {**bundle_of(), "v": 2},
        bundle_of(extra=1),
        bundle_of(name="edge.unheard_of"),
        bundle_of(request="1"),
        bundle_of(epoch=1.5),
        bundle_of(at=None),
    ],
)
def test_a_bundle_with_anything_undeclared_is_refused(bundle: dict[str, Any]) -> None:
    decode_bundle(orjson.dumps(bundle_of()))
    with pytest.raises(DecodeError):
        decode_bundle(orjson.dumps(bundle))


def test_a_frame_with_an_unknown_field_or_push_is_refused() -> None:
    frame = Frame(source="s", number=1, replies=[], pushes=[Push(event="typing", payload="{}", to=["a"])])
    document = json.loads(encode_frame(frame))
    for change in ({"extra": 1}, {"pushes": [{**document["frame"]["pushes"][0], "event": "open_chat"}]}):
        with pytest.raises(DecodeError):
            decode_frame(orjson.dumps({**document, "frame": {**document["frame"], **change}}))


def test_a_reason_names_the_field_but_not_what_was_in_it() -> None:
    with pytest.raises(DecodeError, match=r"items\.0\.lease\.renew\.request") as refused:
        decode_bundle(orjson.dumps(bundle_of(request="secret")))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("payload", [None, [], "x", 1, True, {"$gt": ""}])
@pytest.mark.parametrize("event", CLIENT_EVENTS)
def test_a_payload_that_is_no_object_of_the_event_is_refused(event: str, payload: object) -> None:
    with pytest.raises(Refused) as refused:
        decode_payload(CLIENT_EVENTS[event], payload)
    assert refused.value.code is Code.INVALID_PAYLOAD
    assert refused.value.error.details


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(sorted({name for payload in CLIENT_EVENTS.values() for name in payload.model_fields}))


@given(st.sampled_from(sorted(CLIENT_EVENTS)), json_values | st.dictionaries(fields, json_values))
def test_any_json_is_a_payload_or_a_refusal(event: str, payload: object) -> None:
    decoded = decoded_or_refused(CLIENT_EVENTS[event], payload)
    if isinstance(decoded, Refused):
        assert decoded.code in (Code.INVALID_PAYLOAD, Code.TOO_LARGE)
        assert json.loads(encode_refusal(decoded))["error"]["code"] == decoded.code
    else:
        assert isinstance(decoded, CLIENT_EVENTS[event])


def decoded_or_refused(payload_type: type[Value], payload: object) -> Value | Refused:
    """What becomes of a payload; an exception of any other kind is a mistake."""
    try:
        return decode_payload(payload_type, payload)
    except Refused as refused:
        return refused


def test_an_ack_that_is_ok_carries_its_data_alone() -> None:
    assert json.loads(encode_ok(Nothing())) == {"ok": True, "data": {}}
    assert decode_ok(LeaseRenewed, encode_ok(LeaseRenewed(known=True, epoch=1))) == LeaseRenewed(known=True, epoch=1)


def test_an_ack_that_is_not_ok_carries_every_field_of_its_error() -> None:
    # When an error is encoded
    ack = encode_refusal(not_found())

    # Then its ack has every field, also those at their defaults
    assert json.loads(ack) == {
        "ok": False,
        "error": {
            "code": "not_found",
            "message": "There is no such conversation.",
            "retryable": False,
            "retry_after_ms": 0,
            "details": [],
        },
    }

    # And a client that asks for the data gets none
    assert ack == encode_error(not_found().error)
    assert decode_ok(Nothing, ack) is None


@given(json_values)
def test_what_goes_over_a_socket_comes_back_as_it_was(value: object) -> None:
    assert SocketJSON.loads(SocketJSON.dumps(value)) == value


@pytest.mark.parametrize("text", ["", "{", "NaN", "[Infinity]", "{'a': 1}"])
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        SocketJSON.loads(text)


@pytest.mark.parametrize("payload", ['{"query":"\\ud800"}', '{"\\ud800":1}', '{"query":"\\u0000"}'])
def test_half_a_character_and_control_characters_are_refused_by_name(payload: str) -> None:
    with pytest.raises(Refused) as raised:
        decode_payload(FindUsersPayload, SocketJSON.loads(payload))
    assert raised.value.code is Code.INVALID_PAYLOAD
    assert encode_refusal(raised.value)


def test_an_error_refuses_what_it_does_not_declare() -> None:
    with pytest.raises(ValueError, match="extra"):
        Error.model_validate({"code": Code.INTERNAL, "message": "", "retryable": True, "extra": 1})


@pytest.mark.parametrize("code", Code)
def test_the_outcome_of_an_ack_is_its_error_code(code: Code) -> None:
    assert ack_outcome(encode_refusal(Refused(code, "No.", details=[{"field": "x", "reason": '"ok":true'}]))) == code


def test_the_outcome_of_an_ack_that_is_ok_is_ok() -> None:
    assert ack_outcome(encode_ok(Nothing())) == "ok"
