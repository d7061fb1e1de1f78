"""The only place where bytes become objects of ours, and back.

One AMQP message carries a *bundle*: the commands of one kind that an edge collected while the broker was
confirming the last bundle, or the facts of one batch. Unknown fields are refused everywhere: a field that
nobody declared is a mistake that should be seen.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from contracts.commands import AnyClientCommand
from contracts.errors import Code, DecodeError, Error, Refused, invalid_payload
from contracts.facts import AnyFact
from contracts.frames import Frame
from contracts.reports import AnyReport
from contracts.values import MAX_BODY_CHARACTERS, Value

P = TypeVar("P", bound=Value)

AnyCommand = AnyClientCommand | AnyReport
#: Something that a worker consumes.
Item = AnyCommand | AnyFact


class Bundle(Value):
    """Commands or facts that travel together; each is still handled, refused or dead-lettered on its own."""

    v: Literal[1] = 1
    items: list[Annotated[Item, Field(discriminator="name")]]


class FrameEnvelope(Value):
    """A frame with the version of its encoding."""

    v: Literal[1] = 1
    frame: Frame


_bundle: TypeAdapter[Bundle] = TypeAdapter(Bundle)
_frame: TypeAdapter[FrameEnvelope] = TypeAdapter(FrameEnvelope)


def encode_bundle(items: Sequence[Item]) -> bytes:
    """Write commands or facts as the body of one AMQP message."""
    return _bundle.dump_json(Bundle.model_construct(items=list(items)))


def decode_bundle(body: bytes) -> list[Item]:
    """Read the body of an AMQP message. Raises DecodeError with a reason and the bytes."""
    try:
        return _bundle.validate_json(body).items
    except ValidationError as error:
        raise DecodeError(_reason(error), body) from error


def encode_frame(frame: Frame) -> bytes:
    """Write a frame as the body of one AMQP message."""
    return _frame.dump_json(FrameEnvelope.model_construct(frame=frame))


def decode_frame(body: bytes) -> Frame:
    """Read a frame. Raises DecodeError with a reason and the bytes."""
    try:
        return _frame.validate_json(body).frame
    except ValidationError as error:
        raise DecodeError(_reason(error), body) from error


def decode_payload(payload_type: type[P], payload: object) -> P:
    """Check what a client sent. Raises Refused: invalid_payload names each field and why, too_large a long body."""
    try:
        return payload_type.model_validate(payload)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        if all(part["type"] == "string_too_long" and part["loc"] == ("body",) for part in errors):
            raise Refused(Code.TOO_LARGE, f"A message has at most {MAX_BODY_CHARACTERS} characters.") from None
        raise invalid_payload(errors) from None


def encode_ok(data: Value) -> str:
    """The JSON text of an ack that is ok."""
    return f'{{"ok":true,"data":{data.model_dump_json()}}}'


def encode_error(error: Error) -> str:
    """The JSON text of an ack that is not ok."""
    return f'{{"ok":false,"error":{error.model_dump_json()}}}'


def encode_refusal(refusal: Refused) -> str:
    """The JSON text of the ack that a refusal deserves."""
    return encode_error(refusal.error)


def decode_ok(data_type: type[P], ack: str) -> P | None:
    """The data of an ack that ends at the edge itself, or None where it is not ok."""
    reply = orjson.loads(ack)
    return data_type.model_validate(reply["data"]) if reply["ok"] else None


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


class SocketJSON:
    """orjson in the shape that python-socketio asks a JSON module for."""

    @staticmethod
    def dumps(value: Any, **_: Any) -> str:
        """Write compact JSON text."""
        return orjson.dumps(value).decode()

    @staticmethod
    def loads(text: str | bytes, **_: Any) -> Any:
        """Read JSON. Raises ValueError, or RecursionError.

        What orjson refuses gets a second look: half a surrogate pair, as JavaScript cuts it, deserves an answer
        that names the field, which the check of the payload gives.
        """
        try:
            return orjson.loads(text)
        except ValueError:
            return json.loads(text, parse_constant=_refuse_constant)
