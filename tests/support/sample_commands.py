"""Commands and reports as edges make them."""

import itertools
import secrets
import time
from typing import Any

from contracts.commands import (
    FindUsers,
    FindUsersPayload,
    GetUsers,
    GetUsersPayload,
    ListConversations,
    ListConversationsPayload,
    ListMessages,
    ListMessagesPayload,
    ListParticipants,
    ListParticipantsPayload,
    MessageSeen,
    MessageSeenPayload,
    SendMessage,
    SendMessagePayload,
    StartConversation,
    StartConversationPayload,
)
from contracts.reports import LeaseRenew, SessionClose, SessionOpen

_requests = itertools.count(1)

EDGE = "edge-1"


def _envelope(user_id: str) -> dict[str, Any]:
    return {
        "edge_id": EDGE,
        "request": next(_requests),
        "at": int(time.time() * 1000),
        "user_id": user_id,
        "sid": f"sid-{user_id}",
    }


def start(by: str, *others: str, title: str | None = None) -> StartConversation:
    """Someone starts a conversation."""
    payload = StartConversationPayload(participant_ids=list(others), title=title)
    return StartConversation(**_envelope(by), nonce=secrets.token_hex(16), payload=payload)


def send(by: str, conversation_id: str, client_message_id: str, body: str = "hello") -> SendMessage:
    """Someone sends a message."""
    payload = SendMessagePayload(conversation_id=conversation_id, client_message_id=client_message_id, body=body)
    return SendMessage(**_envelope(by), payload=payload)


def seen(by: str, conversation_id: str, seq: int) -> MessageSeen:
    """Someone has seen a conversation up to a message."""
    return MessageSeen(**_envelope(by), payload=MessageSeenPayload(conversation_id=conversation_id, seq=seq))


def list_messages(by: str, conversation_id: str, **page: int) -> ListMessages:
    """Someone asks for a page of messages."""
    return ListMessages(**_envelope(by), payload=ListMessagesPayload(conversation_id=conversation_id, **page))


def list_conversations(by: str, **page: Any) -> ListConversations:
    """Someone asks for a page of their conversations."""
    return ListConversations(**_envelope(by), payload=ListConversationsPayload(**page))


def find_users(by: str, query: str = "", *, online_only: bool = False, limit: int = 50) -> FindUsers:
    """Someone searches for others."""
    payload = FindUsersPayload(query=query, online_only=online_only, limit=limit)
    return FindUsers(**_envelope(by), payload=payload)


def list_participants(by: str, conversation_id: str, **page: Any) -> ListParticipants:
    """Someone asks for a page of a conversation's participants."""
    return ListParticipants(**_envelope(by), payload=ListParticipantsPayload(conversation_id=conversation_id, **page))


def get_users(by: str, *user_ids: str) -> GetUsers:
    """Someone asks who these users are."""
    return GetUsers(**_envelope(by), payload=GetUsersPayload(user_ids=list(user_ids)))


def opened(user_id: str, *, edge_id: str = EDGE, version: int = 1, epoch: int = 1) -> SessionOpen:
    """An edge holds a user."""
    return SessionOpen(
        edge_id=edge_id,
        request=next(_requests),
        at=int(time.time() * 1000),
        epoch=epoch,
        version=version,
        user_id=user_id,
        user_name=user_id.title(),
        picture=None,
    )


def closed(user_id: str, *, edge_id: str = EDGE, version: int = 2, epoch: int = 1, grace_ms: int = 0) -> SessionClose:
    """An edge holds a user no more."""
    return SessionClose(
        edge_id=edge_id,
        request=next(_requests),
        at=int(time.time() * 1000),
        epoch=epoch,
        version=version,
        user_id=user_id,
        grace_ms=grace_ms,
    )


def alive(edge_id: str = EDGE, epoch: int = 1) -> LeaseRenew:
    """An edge gives a sign of life."""
    return LeaseRenew(edge_id=edge_id, request=next(_requests), at=int(time.time() * 1000), epoch=epoch)
