"""Who may see a conversation. Before its first message, only the users who started it may.

Otherwise a chat that somebody opens and never writes to would appear in the other user's list.
"""

from collections.abc import Mapping

from infra.store.conversations import Header


def may_see(header: Header, user_id: str) -> bool:
    """Whether a user may see the conversation."""
    return user_id in (header.user_ids if header.last is not None else header.opened_by)


def visible_header(headers: Mapping[str, Header], conversation_id: str, user_id: str) -> Header | None:
    """The header of a conversation, or None when it does not exist or the user may not see it."""
    header = headers.get(conversation_id)
    return header if header is not None and may_see(header, user_id) else None


def viewers(header: Header) -> list[str]:
    """The participants who may see the conversation."""
    return [user_id for user_id in header.user_ids if may_see(header, user_id)]
