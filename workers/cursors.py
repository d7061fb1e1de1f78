"""Cursors of lists: the position at which a page ended, as opaque text for clients."""

import base64
import binascii
import re
from datetime import UTC, datetime

from contracts.errors import Code, Refused
from contracts.values import rfc3339
from infra.store.conversations import StoredConversation

_PLACE = re.compile(r"[1-9][0-9]{0,4}")


def write_cursor(conversation: StoredConversation) -> str:
    """Encode the cursor of a page that ends with this conversation."""
    return _encode(f"{rfc3339(conversation.document['updated_at'])} {conversation.id}")


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """Decode the position (updated_at, conversation id). Raises Refused with `invalid_payload` for any other text."""
    try:
        moment, conversation_id = _decode(cursor).split(" ", 1)
        return datetime.fromisoformat(moment).astimezone(UTC), conversation_id
    except (ValueError, OverflowError, binascii.Error):
        raise _not_ours() from None


def write_place(place: int) -> str:
    """Encode the cursor of the participants from this place on."""
    return _encode(str(place))


def read_place(cursor: str) -> int:
    """Decode the place. Raises Refused with `invalid_payload` for any other text."""
    try:
        text = _decode(cursor)
    except (ValueError, binascii.Error):
        raise _not_ours() from None
    if not _PLACE.fullmatch(text):
        raise _not_ours()
    return int(text)


def _encode(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(cursor: str) -> str:
    return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()


def _not_ours() -> Refused:
    details = [{"field": "cursor", "reason": "is not a cursor of this server"}]
    return Refused(Code.INVALID_PAYLOAD, "The payload does not match: cursor.", details=details)
