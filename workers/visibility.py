"""Who may know of a conversation: no ghost chats."""

from infra.store.conversations import Header


def may_see(header: Header, user_id: str) -> bool:
    """Whether a user may know of it: without a message, only those who started it may."""
    return user_id in (header.user_ids if header.last is not None else header.opened_by)


def viewers(header: Header) -> list[str]:
    """The participants who may know of it."""
    return [user_id for user_id in header.user_ids if may_see(header, user_id)]
