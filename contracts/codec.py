"""Encodes and decodes everything that crosses a process boundary. No other module parses or writes it.

One AMQP message carries a *bundle*: the commands of one name that an edge collected while the broker was confirming the
previous bundle, or the facts of several batches. Unknown fields are refused everywhere, so that an undeclared field
fails loudly instead of being dropped.
"""

import json
from collections.abc import Sequence
from itertools import islice
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from contracts.commands import AnyClientCommand
from contracts.errors import MAX_DETAILS, Code, DecodeError, Error, Refused, invalid_payload
from contracts.facts import AnyFact
from contracts.frames import Frame
from contracts.reports import AnyReport
from contracts.values import MAX_BODY_CHARACTERS, Value

P = TypeVar("P", bound=Value)

AnyCommand = AnyClientCommand | AnyReport
#: What a worker consumes.
Item = AnyCommand | AnyFact


class Bundle(Value):
    """Commands or facts in one AMQP message. Each is handled, refused or dead-lettered on its own."""

    v: Literal[1] = 1
    items: list[Annotated[Item, Field(discriminator="name")]]


class FrameEnvelope(Value):
    """A frame with the version of its encoding."""

    v: Literal[1] = 1
    frame: Frame


_bundle: TypeAdapter[Bundle] = TypeAdapter(Bundle)
_frame: TypeAdapter[FrameEnvelope] = TypeAdapter(FrameEnvelope)

#: How the text of an ack starts; `code` is the first field of `Error`.
_OK_START, _ERROR_START = '{"ok":true,"data":', '{"ok":false,"error":{"code":"'


def encode_bundle(items: Sequence[Item]) -> bytes:
    """Encode commands or facts as the body of one AMQP message."""
    return _bundle.dump_json(Bundle.model_construct(items=list(items)))


def decode_bundle(body: bytes) -> list[Item]:
    """Decode the body of an AMQP message. Raises DecodeError with a reason and the bytes."""
    try:
        return _bundle.validate_json(body).items
    except ValidationError as error:
        raise DecodeError(_reason(error), body) from error


def encode_frame(frame: Frame) -> bytes:
    """Encode a frame as the body of one AMQP message."""
    return _frame.dump_json(FrameEnvelope.model_construct(frame=frame))


def decode_frame(body: bytes) -> Frame:
    """Decode a frame. Raises DecodeError with a reason and the bytes."""
    try:
        return _frame.validate_json(body).frame
    except ValidationError as error:
        raise DecodeError(_reason(error), body) from error


def decode_payload(payload_type: type[P], payload: object) -> P:
    """Validate a client's payload.

    Raises Refused: with `too_large` when the message body is too long, else with `invalid_payload`, whose details name
    each field and the reason.
    """
    try:
        return payload_type.model_validate(_with_few_unknown_fields(payload_type, payload))
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        if all(part["type"] == "string_too_long" and part["loc"] == ("body",) for part in errors):
            raise Refused(Code.TOO_LARGE, f"A message has at most {MAX_BODY_CHARACTERS} characters.") from None
        raise invalid_payload(errors) from None


def _with_few_unknown_fields(payload_type: type[Value], payload: object) -> object:
    """The payload without most of its unknown fields.

    Pydantic makes an error of each. An event has room for thousands, and 20 sockets of one user that sent such events
    within their limits stalled an edge for 5 s.
    """
    known = payload_type.model_fields
    if not isinstance(payload, dict) or len(payload) <= len(known) + MAX_DETAILS:
        return payload
    named = islice((name for name in payload if name not in known), MAX_DETAILS)
    return {name: payload[name] for name in (*(name for name in known if name in payload), *named)}


def encode_ok(data: Value) -> str:
    """The JSON text of an ack that is ok."""
    return f"{_OK_START}{data.model_dump_json()}}}"


def encode_error(error: Error) -> str:
    """The JSON text of an ack that is not ok."""
    return f'{{"ok":false,"error":{error.model_dump_json()}}}'


def encode_refusal(refusal: Refused) -> str:
    """The JSON text of the ack for a refusal."""
    return encode_error(refusal.error)


def decode_ok(data_type: type[P], ack: str) -> P | None:
    """The data of an ack, or None when the ack is not ok. Edges read only the acks of their own reports."""
    reply = orjson.loads(ack)
    return data_type.model_validate(reply["data"]) if reply["ok"] else None


def ack_outcome(ack: str) -> str:
    """`ok`, or the error code, of an ack that this module encoded. Reads only the start of the text."""
    return "ok" if ack.startswith(_OK_START) else ack.removeprefix(_ERROR_START).split('"', 1)[0]


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


class SocketJSON:
    """orjson with the interface that python-socketio expects of a JSON module."""

    @staticmethod
    def dumps(value: Any, **_: Any) -> str:
        """Encode as compact JSON text."""
        return orjson.dumps(value).decode()

    @staticmethod
    def loads(text: str | bytes, **_: Any) -> Any:
        """Decode JSON. Raises ValueError or RecursionError.

        Text that orjson refuses is parsed again by the standard library. It accepts half of a surrogate pair, which
        JavaScript produces when it cuts a string; the payload's validation then refuses it and names the field.
        """
        try:
            return orjson.loads(text)
        except ValueError:
            return json.loads(text, parse_constant=_refuse_constant)
