"""Derived ids. A repeated command derives the same id, so its second insert has no effect."""

from uuid import UUID, uuid5

# A namespace for each kind of id, so that ids of different kinds are never equal (RFC 9562, section 6.5).
_MESSAGES = UUID("6b8f1f0e-53c1-4c0b-9d3c-0d8a3a1f7c01")
_DIRECT = UUID("6b8f1f0e-53c1-4c0b-9d3c-0d8a3a1f7c02")
_GROUP = UUID("6b8f1f0e-53c1-4c0b-9d3c-0d8a3a1f7c03")


def message_id(conversation_id: str, sender_id: str, client_message_id: str) -> str:
    """The id of a message, the same for every repetition of its command. No part may contain a line break."""
    return str(uuid5(_MESSAGES, f"{conversation_id}\n{sender_id}\n{client_message_id}"))


def direct_conversation_id(one: str, other: str) -> str:
    """The id of the direct conversation of two users, in either order."""
    return str(uuid5(_DIRECT, "\n".join(sorted((one, other)))))


def group_conversation_id(nonce: str) -> str:
    """The id of the group that a command starts, the same for every repetition. Nobody can guess it from other data."""
    return str(uuid5(_GROUP, nonce))
