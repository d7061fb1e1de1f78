"""Every way in which Warren says no.

WarrenError
├── Refused             a client asked for something it does not get; carries a Code
├── DecodeError         bytes that are no bundle or frame of ours; carries the bytes
├── BrokerUnavailable   nothing was accepted: the broker is away, blocked, or its queue is full
├── PublishUnknown      the broker did not confirm in time: it may or may not have the message
├── Unroutable          the broker has no queue for the message, so nobody got it
├── MessageTooLarge     the broker will never take the message, whenever it is published
└── StoreUnavailable    the store did not answer, or not with a majority
"""

from enum import StrEnum
from typing import Any

from pydantic import Field

from contracts.values import Value


class Code(StrEnum):
    """The error codes that clients see; they never change their meaning."""

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
    """What an ack carries when it is not ok. `details` names each field and why, or the id in the log."""

    code: Code
    message: str
    retryable: bool
    retry_after_ms: int = 0
    details: list[dict[str, str]] = Field(default_factory=list)


class WarrenError(Exception):
    """The base of every error that Warren raises itself."""


class Refused(WarrenError):
    """Raised when a client asks for something that it does not get."""

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
    """Raised when bytes cannot be turned into a value of ours; `body` keeps them for the dead letter."""

    def __init__(self, reason: str, body: bytes) -> None:
        super().__init__(reason)
        self.body = body


class BrokerUnavailable(WarrenError):
    """Raised when the broker did not accept a message, so that nothing happened."""


class PublishUnknown(WarrenError):
    """Raised when the broker's confirm did not come in time: the message may be there or not."""


class MessageTooLarge(WarrenError):
    """Raised when a message is over the broker's limit, so that publishing it again is of no use."""


class Unroutable(WarrenError):
    """Raised when a mandatory message found no queue."""


class StoreUnavailable(WarrenError):
    """Raised when the store cannot take or answer an operation now; the same call may work later."""


def not_found() -> Refused:
    """The same answer for a conversation that does not exist and for one that is not yours."""
    return Refused(Code.NOT_FOUND, "There is no such conversation.")


def _text(value: object) -> str:
    """Text of a bounded length that can be encoded, whatever a client called its fields."""
    return str(value)[:200].encode(errors="replace").decode()


def invalid_payload(errors: list[Any]) -> Refused:
    """Turn pydantic's list of errors into the refusal that names each field and why."""
    details = [
        {"field": _text(".".join(str(part) for part in error["loc"])) or "payload", "reason": _text(error["msg"])}
        for error in errors[:20]
    ]
    fields = ", ".join(detail["field"] for detail in details)
    return Refused(Code.INVALID_PAYLOAD, f"The payload does not match: {fields}.", details=details)
