"""Cursors of `list_conversations`: the position at which a page ended, as opaque text for clients."""

import base64
import binascii
from datetime import UTC, datetime

from contracts.errors import Code, Refused
from contracts.values import rfc3339
from infra.store.conversations import Header


def write_cursor(header: Header) -> str:
    """Encode the cursor of a page that ends with this conversation."""
    text = f"{rfc3339(header.document['updated_at'])} {header.id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """Decode the position (updated_at, conversation id). Raises Refused with `invalid_payload` for any other text."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        moment, conversation_id = text.split(" ", 1)
        return datetime.fromisoformat(moment).astimezone(UTC), conversation_id
    except (ValueError, OverflowError, binascii.Error):
        details = [{"field": "cursor", "reason": "is not a cursor of this server"}]
        raise Refused(Code.INVALID_PAYLOAD, "The payload does not match: cursor.", details=details) from None
