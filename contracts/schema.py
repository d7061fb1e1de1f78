"""JSON Schema (2020-12) of everything that passes between a client and an edge, in one document.

pydantic writes the schemas; this module gives them the shape that a reader, and a generator of types, can use:
every type once under its own name in `$defs`, no title on a field, and nothing optional in what a server sends.
"""

from collections.abc import Iterable
from typing import Any, Literal

from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from typing_extensions import override

from contracts.acks import ACKS
from contracts.commands import CLIENT_EVENTS
from contracts.errors import Error
from contracts.pushes import PUSHES
from contracts.values import Value

Schema = dict[str, Any]
#: A type, and whether its schema describes what Warren takes (`validation`) or what it writes (`serialization`).
Typed = tuple[type[Value], Literal["validation", "serialization"]]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DEFS = "#/$defs/"


class _Generator(GenerateJsonSchema):
    """pydantic's generator, with every field that Warren writes required: it leaves none out."""

    @override
    def field_is_required(self, field: Any, total: bool) -> bool:
        return self.mode == "serialization" or super().field_is_required(field, total)


def definitions(types: list[Typed], prefix: str) -> dict[str, Schema]:
    """The schema of each type, and of all it is made of, by name; `prefix` is what references start with."""
    _, document = models_json_schema(
        sorted(set(types), key=str), ref_template=prefix + "{model}", schema_generator=_Generator
    )
    return {_name(name): _tidy(schema, title=_name(name), prefix=prefix) for name, schema in document["$defs"].items()}


def client_types() -> list[Typed]:
    """What clients send, as they may write it, and what they get, as Warren writes it."""
    sent: list[Typed] = [(payload, "validation") for payload in CLIENT_EVENTS.values()]
    got: list[type[Value]] = [*ACKS.values(), *PUSHES.values(), Error]
    return sent + written(got)


def written(types: Iterable[type[Value]]) -> list[Typed]:
    """Types as Warren writes them."""
    return [(of, "serialization") for of in types]


def envelopes(prefix: str) -> dict[str, Schema]:
    """What is not a type of its own in Python: the connection's `auth`, its refusal, and an ack that is not ok."""
    code: Schema = {"$ref": f"{prefix}Code"}
    return {
        "Auth": _object("Auth", "Goes with the connection, never into its URL.", token={"type": "string"}),
        "ConnectRefusal": _object(
            "ConnectRefusal",
            "The `data` of Socket.IO's `connect_error`; its `message` is the code.",
            code=code,
            message={"type": "string"},
            retryable={"type": "boolean"},
        ),
        "Refusal": _object(
            "Refusal",
            "An ack that is not ok.",
            ok={"type": "boolean", "const": False},
            error={"$ref": f"{prefix}Error"},
        ),
    }


def ack_of(data: type[Value], prefix: str) -> Schema:
    """The single argument of an event's ack: its data, or the refusal."""
    accepted = _object(None, None, ok={"type": "boolean", "const": True}, data={"$ref": prefix + data.__name__})
    return {"anyOf": [accepted, {"$ref": f"{prefix}Refusal"}]}


def client_schema() -> Schema:
    """The document: `Commands` and `Pushes` by event, and the types they are made of."""
    commands = {
        event: _object(None, None, payload=_ref(payload), data=_ref(ACKS[event]), ack=ack_of(ACKS[event], DEFS))
        for event, payload in CLIENT_EVENTS.items()
    }
    pushes = {str(event): _ref(payload) for event, payload in PUSHES.items()}
    return {
        "$schema": DIALECT,
        "$comment": "Written by `python -m contracts` (make docs) from contracts/; not to be edited.",
        **_object(
            "Protocol",
            "What crosses the socket: see docs/protocol.md.",
            commands=_ref_to("Commands"),
            pushes=_ref_to("Pushes"),
            connect=_object(None, None, auth=_ref_to("Auth"), refusal=_ref_to("ConnectRefusal")),
        ),
        "$defs": dict(
            sorted(
                {
                    **definitions(client_types(), DEFS),
                    **envelopes(DEFS),
                    "Commands": _object(
                        "Commands", "What a client may send: payload and ack of each event.", **commands
                    ),
                    "Pushes": _object("Pushes", "What a server sends by itself: the payload of each event.", **pushes),
                }.items()
            )
        ),
    }


def _ref(of: type[Value]) -> Schema:
    return _ref_to(of.__name__)


def _ref_to(name: str) -> Schema:
    return {"$ref": DEFS + name}


def _object(title: str | None, description: str | None, /, **properties: Schema) -> Schema:
    """An object with these properties, all of them there and no others."""
    return {
        **({"title": title} if title else {}),
        **({"description": description} if description else {}),
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _name(name: str) -> str:
    """The name of a definition. A payload has two: as a client may write it, and as it is relayed, all filled in."""
    if name.endswith("-Output"):
        return f"Relayed{name.removesuffix('-Output')}"
    return name.removesuffix("-Input")


def _tidy(schema: Schema, *, title: str, prefix: str) -> Schema:
    """A definition under its own name, without pydantic's titles of fields and without OpenAPI's discriminator."""
    tidied = _without_titles(schema, prefix)
    return {"title": title, **tidied}


def _without_titles(node: Any, prefix: str) -> Any:
    if isinstance(node, list):
        return [_without_titles(part, prefix) for part in node]
    if not isinstance(node, dict):
        return node
    tidied: Schema = {}
    for key, value in node.items():
        if key == "properties":
            # Below it, keys are names of fields: one of them is `title`.
            tidied[key] = {name: _without_titles(field, prefix) for name, field in value.items()}
        elif key == "$ref":
            tidied[key] = prefix + _name(value.removeprefix(prefix))
        elif key == "description":
            tidied[key] = " ".join(value.split())
        elif key not in ("title", "discriminator"):
            tidied[key] = _without_titles(value, prefix)
    return tidied
