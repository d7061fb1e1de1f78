"""What happened, in the past tense. A fact may arrive twice and in any order; it only says where to look."""

from typing import Literal

from contracts.values import Value


class MessageStored(Value):
    """A message is committed to a majority and the conversation's header shows it.

    `sender_was_behind` tells that sending moved the sender's own watermark over messages of others, so that
    the sender's unread count changed too; it is also true where that can no longer be told.
    """

    name: Literal["message.stored"] = "message.stored"
    conversation_id: str
    seq: int
    sender_id: str
    sender_was_behind: bool


AnyFact = MessageStored
