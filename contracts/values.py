"""The base of every value on a wire, and the field types that several of them share."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

#: The largest integer that JavaScript clients and BSON's int64 both hold exactly.
MAX_SAFE_INTEGER = 2**53 - 1
#: Characters in a message's body, counted after trimming.
MAX_BODY_CHARACTERS = 4000
#: Rows a client may ask for at once, and how many it gets when it does not say.
MAX_LIMIT = 100
DEFAULT_LIMIT = 50
#: People in one group, its creator included: bounds the size of a header and of a fan-out.
MAX_PARTICIPANTS = 500


class Value(BaseModel):
    """A frozen value that refuses unknown fields and never coerces one type into another."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


#: Nothing but printable characters: no control character, and in ids that are parts of other ids no line break.
PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
#: A user id is the token's `sub`: up to 128 characters, none of them a control character.
UserId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=PRINTABLE)]
ConversationId = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=PRINTABLE)]
ClientMessageId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Seq = Annotated[int, Field(ge=1, le=MAX_SAFE_INTEGER)]
Watermark = Annotated[int, Field(ge=0, le=MAX_SAFE_INTEGER)]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT)]
#: RFC 3339 in UTC with milliseconds, as text: `2026-01-31T12:00:00.000Z`.
Timestamp = str


def rfc3339(moment: datetime) -> Timestamp:
    """Write an aware moment as RFC 3339 in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def utc_datetime(milliseconds: int) -> datetime:
    """Turn milliseconds since the epoch into an aware UTC moment."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
