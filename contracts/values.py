"""The base class of all values in the contracts, and the field types that they share."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from contracts.text import CONTROLS, shown_text

#: The largest integer that JavaScript represents exactly (Number.MAX_SAFE_INTEGER).
MAX_SAFE_INTEGER = 2**53 - 1
#: Characters in a message body, after whitespace was stripped.
MAX_BODY_CHARACTERS = 4000
#: The largest page that a client may ask for, and the default page.
MAX_LIMIT = 100
DEFAULT_LIMIT = 50
#: Participants of one conversation, including its creator. It bounds the size of a header and of a fan-out.
MAX_PARTICIPANTS = 500
#: Participants that a conversation shows, the first who joined. It bounds a page of conversations.
SHOWN_PARTICIPANTS = 20
#: Participants of the largest conversation in which the others hear that someone has read: in a group of n they may get
#: n² such pushes for one message.
MAX_SEEN_PARTICIPANTS = 100
#: Users that a client may name in one read.
MAX_USER_IDS = 100
#: Characters of a group's title, and of a search for users.
MAX_TITLE, MAX_QUERY = 200, 100


class Value(BaseModel):
    """A frozen value. It refuses unknown fields and does not coerce types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


#: Text without control characters.
PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
#: Text without any controls, bidirectional ones and line breaks included: ids are shown, and are parts of other ids.
ID_TEXT = rf"^[^{CONTROLS}\u2028\u2029]*$"
#: A user id is the token's `sub`: 1 to 128 characters without controls.
UserId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=ID_TEXT)]
#: An edge's id is part of a queue's name and a routing key, which AMQP bounds to 255 bytes.
EdgeId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,100}$")]
#: A Socket.IO session id.
SocketId = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=PRINTABLE)]
#: Milliseconds since the epoch, up to the year 9999, so that every value is a date.
Milliseconds = Annotated[int, Field(ge=0, le=253_402_300_799_999)]
#: A number that counts up: of a request, a version, a registration.
Counter = Annotated[int, Field(ge=0, le=MAX_SAFE_INTEGER)]
#: Characters of a name, and bytes of a picture's address, that are shown to others. They bound a page of conversations
#: with the pictures of the participants that it shows, which must fit into one message of the broker.
MAX_NAME, MAX_PICTURE = 200, 2_048
ConversationId = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=ID_TEXT)]
ClientMessageId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Seq = Annotated[int, Field(ge=1, le=MAX_SAFE_INTEGER)]
Watermark = Annotated[int, Field(ge=0, le=MAX_SAFE_INTEGER)]
#: Text that other users are shown, without the controls that a client sent in it.
ShownText = Annotated[str, BeforeValidator(lambda text: shown_text(text) if isinstance(text, str) else text)]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT)]
#: Opaque text of the server: where a page ended.
Cursor = Annotated[str, StringConstraints(min_length=1, max_length=256)]
#: The users that one read names.
UserIds = Annotated[list[UserId], Field(min_length=1, max_length=MAX_USER_IDS)]
#: RFC 3339 in UTC with milliseconds, as text: `2026-01-31T12:00:00.000Z`.
Timestamp = str


def rfc3339(moment: datetime) -> Timestamp:
    """An aware datetime as RFC 3339 text in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def utc_datetime(milliseconds: int) -> datetime:
    """Milliseconds since the epoch as an aware datetime in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
