"""Effects: what a handler wants to have sent, in the order in which it said so."""

import orjson
import pytest

from contracts.acks import Nothing
from contracts.commands import Typing, TypingPayload
from contracts.errors import Code, Refused
from contracts.facts import MessageStored
from contracts.pushes import TypingByOther
from workers.effects import Effects

NOTICE = TypingByOther(conversation_id="c1", user_id="ada", typing=True)


def command(request: int, edge_id: str = "e1") -> Typing:
    payload = TypingPayload(conversation_id="c1", typing=True)
    return Typing(edge_id=edge_id, request=request, at=0, user_id="ada", sid="s1", payload=payload)


def test_replies_are_kept_by_the_edge_that_asked_in_their_order() -> None:
    effects = Effects()
    for request, edge_id in ((1, "e1"), (2, "e2"), (3, "e1")):
        effects.reply(command(request, edge_id), Nothing())
    assert {edge: [reply.request for reply in replies] for edge, replies in effects.replies.items()} == {
        "e1": [1, 3],
        "e2": [2],
    }


def test_a_reply_is_an_ack_that_is_ok_and_a_refusal_one_that_is_not() -> None:
    effects = Effects()
    effects.reply(command(1), Nothing())
    effects.refuse(command(2), Refused(Code.FORBIDDEN, "No."))
    ok, refused = (orjson.loads(reply.ack) for reply in effects.replies["e1"])
    assert ok == {"ok": True, "data": {}}
    assert (refused["ok"], refused["error"]["code"]) == (False, "forbidden")


def test_a_push_is_encoded_once_for_all_who_get_it() -> None:
    effects = Effects()
    effects.push("typing", NOTICE, ["bob", "cy"], except_sid="s1")
    (push,) = effects.pushes
    assert (push.event, push.to, push.except_sid) == ("typing", ["bob", "cy"], "s1")
    assert orjson.loads(push.payload) == {"conversation_id": "c1", "user_id": "ada", "typing": True}


def test_a_push_with_the_payload_of_another_event_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        Effects().push("new_message", NOTICE, ["bob"])


async def test_extending_keeps_the_order_and_leaves_the_other_as_it_was() -> None:
    # Given two effects
    called: list[str] = []

    def noting(name: str) -> Effects:
        async def follow_up() -> None:
            called.append(name)

        effects = Effects(after_frames=[follow_up])
        effects.reply(command(len(name)), Nothing())
        effects.push("typing", NOTICE, [name])
        effects.facts.append(MessageStored(conversation_id=name, seq=1, sender_id="ada", sender_was_behind=False))
        return effects

    first, second = noting("a"), noting("bb")

    # When one takes in the other, then all of it follows its own
    first.extend(second)
    assert [reply.request for reply in first.replies["e1"]] == [1, 2]
    assert [push.to for push in first.pushes] == [["a"], ["bb"]]
    assert [fact.conversation_id for fact in first.facts] == ["a", "bb"]
    for follow_up in first.after_frames:
        await follow_up()
    assert called == ["a", "bb"]
    assert [reply.request for reply in second.replies["e1"]] == [2]
