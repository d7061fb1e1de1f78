"""Cursors of `list_conversations`: where a page ended, in a form that clients only hand back."""

import base64
import binascii
from datetime import UTC, datetime

from contracts.errors import Code, Refused
from contracts.values import rfc3339
from infra.store.conversations import Header


def write_cursor(header: Header) -> str:
    """The cursor of a page that ends with this conversation."""
    text = f"{rfc3339(header.document['updated_at'])} {header.id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """Where a page ended. Raises Refused(invalid_payload) for anything that we did not hand out."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        moment, conversation_id = text.split(" ", 1)
        return datetime.fromisoformat(moment).astimezone(UTC), conversation_id
    except (ValueError, OverflowError, binascii.Error):
        details = [{"field": "cursor", "reason": "is no cursor of ours"}]
        raise Refused(Code.INVALID_PAYLOAD, "The payload does not match: cursor.", details=details) from None
