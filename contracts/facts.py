"""Facts: what has happened, in the past tense.

A fact may arrive twice and in any order. Its consumer reads the current state from the store.
"""

from typing import Literal

from contracts.values import ConversationId, Seq, UserId, Value


class MessageStored(Value):
    """A message is committed to a majority, and its conversation's header includes it.

    `sender_was_behind` says that sending moved the sender's own watermark past messages of others, so that the sender's
    unread count changed too. It is also true when that is unknown.
    """

    name: Literal["message.stored"] = "message.stored"
    conversation_id: ConversationId
    seq: Seq
    sender_id: UserId
    sender_was_behind: bool


AnyFact = MessageStored
