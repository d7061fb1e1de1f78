"""Converts stored data to the models that clients see."""

from collections.abc import Mapping

from contracts.models import Conversation, FoundUser, LastMessage, Message, Participant, Presence, User
from contracts.values import rfc3339
from infra.store.conversations import Summary
from infra.store.messages import StoredMessage
from infra.store.operations import Document


def message_view(message: StoredMessage) -> Message:
    """A stored message as clients see it."""
    return Message.model_construct(
        id=message.id,
        conversation_id=message.conversation_id,
        seq=message.seq,
        sender_id=message.sender_id,
        client_message_id=message.client_message_id,
        body=message.body,
        sent_at=rfc3339(message.sent_at),
    )


def conversation_view(summary: Summary, users: Mapping[str, Document]) -> Conversation:
    """A conversation as the summary's reader sees it. `users` are the documents of the shown participants by id."""
    document = summary.document
    return Conversation.model_construct(
        id=summary.id,
        kind=document["kind"],
        title=document["title"],
        created_by=document["created_by"],
        created_at=rfc3339(document["created_at"]),
        updated_at=rfc3339(document["updated_at"]),
        last_seq=summary.last_seq,
        last_read_seq=summary.read.seq,
        last_read_at=rfc3339(summary.read.at) if summary.read.at else None,
        unread_count=summary.unread,
        last_message=_last_message_view(summary.last),
        participant_count=summary.participant_count,
        participants=[participant_view(part, users.get(part["user_id"])) for part in document["participants"]],
    )


def participant_view(part: Document, user: Document | None) -> Participant:
    """A participant of a header, with the user's document."""
    read = part["read"]
    return Participant.model_construct(
        user=user_view(part["user_id"], user),
        online=bool(user and user.get("online")),
        last_seen_at=_last_seen(user) if user else None,
        last_read_seq=read["seq"],
        last_read_at=rfc3339(read["at"]) if read["at"] else None,
    )


def user_view(user_id: str, document: Document | None) -> User:
    """A user as others see them. Without a document, or without a name in it, the name is the id."""
    document = document or {}
    return User.model_construct(id=user_id, name=document.get("name") or user_id, picture=document.get("picture"))


def found_user_view(document: Document) -> FoundUser:
    """A user with their presence, for `find_users` and `get_users`."""
    user = user_view(document["_id"], document)
    return FoundUser.model_construct(
        id=user.id,
        name=user.name,
        picture=user.picture,
        online=bool(document.get("online")),
        last_seen_at=_last_seen(document),
    )


def presence_view(user_id: str, document: Document | None) -> Presence:
    """A user's presence. A user who has never connected is offline."""
    document = document or {}
    return Presence.model_construct(
        user_id=user_id, online=bool(document.get("online")), last_seen_at=_last_seen(document)
    )


def _last_message_view(last: Document | None) -> LastMessage | None:
    if last is None:
        return None
    return LastMessage.model_construct(
        id=last["id"],
        seq=last["seq"],
        sender_id=last["sender_id"],
        preview=last["preview"],
        sent_at=rfc3339(last["sent_at"]),
    )


def _last_seen(document: Document) -> str | None:
    moment = document.get("last_seen_at")
    return rfc3339(moment) if moment is not None else None
