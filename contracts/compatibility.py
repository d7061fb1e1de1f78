"""Compares two versions of the wire format by their JSON Schemas: what one writes and the other does not read.

Processes of two versions run side by side while a new version is rolled out or back, so each must read what the other
writes. Readers refuse unknown fields; therefore even a new field takes two steps, which docs/design.md describes.

The comparison supports the part of JSON Schema that pydantic generates for these values. Where it cannot decide, it
reports an incompatibility.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

#: Keywords of lower limits and of upper limits. `pattern` is compared separately.
AT_LEAST = ("minLength", "minItems", "minimum", "exclusiveMinimum")
AT_MOST = ("maxLength", "maxItems", "maximum", "exclusiveMaximum")


@dataclass(frozen=True)
class Comparison:
    """A writer's and a reader's schema documents, with the definitions of their references."""

    writer: Schema
    reader: Schema
    #: Whether the reader ignores unknown fields. Clients do; Warren's processes refuse them.
    skips_unknown: bool = False

    def incompatibilities(self, written: Schema, read: Schema, path: str) -> Iterator[str]:
        """A sentence for each value below `path` that the writer may write and the reader refuses."""
        branches, readers = _branches(written, self.writer), _branches(read, self.reader)
        for branch in branches:
            label = _label(branch)
            candidates = [reader for reader in readers if label is None or _label(reader) in (label, None)]
            found = [list(self._single(branch, reader, f"{path}.{label}" if label else path)) for reader in candidates]
            if not found:
                yield f"{path}: nobody reads {label}"
            elif all(found):
                yield from min(found, key=len)

    def _single(self, written: Schema, read: Schema, path: str) -> Iterator[str]:
        types = written.get("type"), read.get("type")
        if types[0] != types[1] and types[1] is not None and types != ("integer", "number"):
            yield f"{path}: is written as {types[0]} and read as {types[1]}"
            return
        yield from _values(written, read, path)
        yield from _limits(written, read, path)
        if "items" in read:
            yield from self.incompatibilities(written.get("items", {}), read["items"], f"{path}[]")
        if types[0] == "object":
            yield from self._fields(written, read, path)

    def _fields(self, written: Schema, read: Schema, path: str) -> Iterator[str]:
        ours, theirs = written.get("properties", {}), read.get("properties", {})
        for name, field in ours.items():
            if name in theirs:
                yield from self.incompatibilities(field, theirs[name], f"{path}.{name}")
            elif read.get("additionalProperties") is False and not self.skips_unknown:
                yield f"{path}.{name}: is written, and readers refuse what they do not know"
        for name in read.get("required", []):
            if name not in written.get("required", []):
                yield f"{path}.{name}: readers need it, and it is not always written"
        rest, taken = written.get("additionalProperties", True), read.get("additionalProperties", True)
        if rest is not False and taken is not True and not self.skips_unknown:
            if taken is False:
                yield f"{path}: any field may be written, and readers refuse what they do not know"
            else:
                yield from self.incompatibilities(_any(rest), taken, f"{path}.*")


def _values(written: Schema, read: Schema, path: str) -> Iterator[str]:
    """Where the reader has a list of values, every value of the writer must be in it."""
    known = _listed(read)
    if known is None:
        return
    for value in _listed(written) or [None]:
        if value is None:
            yield f"{path}: any value may be written, and only {known} are read"
        elif value not in known:
            yield f"{path}: {value!r} is written and not read"


def _limits(written: Schema, read: Schema, path: str) -> Iterator[str]:
    if _listed(written) is not None:
        return
    for keyword in (*AT_LEAST, *AT_MOST):
        if (limit := read.get(keyword)) is None:
            continue
        own = written.get(keyword)
        if own is None or (own < limit if keyword in AT_LEAST else own > limit):
            yield f"{path}: {keyword} is {limit} where it is read and {own} where it is written"
    if read.get("pattern") not in (None, written.get("pattern")):
        yield f"{path}: is read by another pattern than it is written by"


def _listed(schema: Schema) -> Sequence[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _branches(schema: Schema, document: Schema) -> list[Schema]:
    """The alternatives of a schema, with references resolved and nested alternatives flattened."""
    if "$ref" in schema:
        return _branches(document["$defs"][schema["$ref"].rsplit("/", 1)[-1]], document)
    choices = schema.get("anyOf") or schema.get("oneOf")
    return [branch for choice in choices for branch in _branches(choice, document)] if choices else [schema]


def _label(schema: Schema) -> str | None:
    """The discriminator that distinguishes the items of a bundle."""
    label: str | None = schema.get("properties", {}).get("name", {}).get("const")
    return label


def _any(schema: bool | Schema) -> Schema:
    return {} if isinstance(schema, bool) else schema
