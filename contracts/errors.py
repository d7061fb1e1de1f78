"""All errors that Warren raises, and the error codes that clients get.

WarrenError
├── Refused             a client's request is refused; carries the error for the ack
├── DecodeError         bytes are not a valid bundle or frame; carries the bytes
├── BrokerUnavailable   the broker accepted nothing: it is away or blocked, or the queue is full
├── PublishUnknown      no confirm in time: the broker may have the message or not
├── Unroutable          no queue is bound for the message, so the broker dropped it
├── MessageTooLarge     the message is over the broker's limit, so the broker never accepts it
└── StoreUnavailable    the store did not answer, or has no majority
"""

from enum import StrEnum
from typing import Any

from pydantic import Field

from contracts.values import Value

#: Wrong fields that one refusal names.
MAX_DETAILS = 20


class Code(StrEnum):
    """The error codes that clients get. Their meaning never changes."""

    UNAUTHORIZED = "unauthorized"
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 - a code, not a secret
    NOT_VERIFIED = "not_verified"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    INVALID_PAYLOAD = "invalid_payload"
    UNKNOWN_EVENT = "unknown_event"
    TOO_LARGE = "too_large"
    NOT_FOUND = "not_found"
    USER_NOT_FOUND = "user_not_found"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    INTERNAL = "internal"


RETRYABLE = frozenset({Code.TOO_MANY_CONNECTIONS, Code.RATE_LIMITED, Code.UNAVAILABLE, Code.TIMEOUT, Code.INTERNAL})


class Error(Value):
    """The error of an ack that is not ok. `details` name each wrong field and the reason, or the id in the log."""

    code: Code
    message: str
    retryable: bool
    retry_after_ms: int = 0
    details: list[dict[str, str]] = Field(default_factory=list)


class WarrenError(Exception):
    """The base of all errors that Warren raises."""


class Refused(WarrenError):
    """Raised when a client's request is refused; `error` goes into the ack."""

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        retry_after_ms: int = 0,
        details: list[dict[str, str]] | None = None,
    ) -> None:
        super().__init__(message)
        self.error = Error(
            code=code,
            message=message,
            retryable=code in RETRYABLE,
            retry_after_ms=retry_after_ms,
            details=details or [],
        )

    @property
    def code(self) -> Code:
        return self.error.code


class DecodeError(WarrenError):
    """Raised when bytes cannot be decoded; `body` keeps them for the dead letter."""

    def __init__(self, reason: str, body: bytes) -> None:
        super().__init__(reason)
        self.body = body


class BrokerUnavailable(WarrenError):
    """Raised when the broker did not accept a message: it has no effect, and publishing it again is safe."""


class PublishUnknown(WarrenError):
    """Raised when the broker's confirm did not arrive: the broker may have the message or not."""


class MessageTooLarge(WarrenError):
    """Raised when a message is over the broker's limit, so that publishing it again is of no use."""


class Unroutable(WarrenError):
    """Raised when no queue is bound for a mandatory message."""


class StoreUnavailable(WarrenError):
    """Raised when the store cannot execute an operation now. The same call may succeed later."""


def not_found() -> Refused:
    """The refusal for a conversation that does not exist, and for one that the user may not see: they look the same."""
    return Refused(Code.NOT_FOUND, "There is no such conversation.")


def internal(reference: str) -> Refused:
    """The refusal for an error of Warren's own; the log has the error under `reference`."""
    return Refused(Code.INTERNAL, "Something went wrong on our side.", details=[{"id": reference}])


def _text(value: object) -> str:
    """The first 200 characters in a form that can be encoded: a client chooses the names of its fields."""
    return str(value)[:200].encode(errors="replace").decode()


def invalid_payload(errors: list[Any]) -> Refused:
    """The refusal for pydantic's list of errors; it names each field and the reason, `MAX_DETAILS` at most."""
    details = [
        {"field": _text(".".join(str(part) for part in error["loc"])) or "payload", "reason": _text(error["msg"])}
        for error in errors[:MAX_DETAILS]
    ]
    fields = ", ".join(detail["field"] for detail in details)
    return Refused(Code.INVALID_PAYLOAD, f"The payload does not match: {fields}.", details=details)
