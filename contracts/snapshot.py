"""The wire format, version by version: `contracts/snapshots/<version>.json` says what each writes and reads.

A version whose heading (`### Wire format 2`) stands under *Unreleased* in CHANGELOG.md may still change; once it is
released, a change needs a new version and a heading of its own. Either way the new version and the one before it must
read each other.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contracts import topology
from contracts.acks import ACKS, LeaseRenewed, SessionOpened
from contracts.asyncapi import ITEMS
from contracts.codec import Bundle, FrameEnvelope, decode_bundle, decode_frame, encode_bundle, encode_frame
from contracts.commands import CLIENT_EVENTS
from contracts.compatibility import Comparison, Schema
from contracts.errors import Error
from contracts.pushes import PUSHES
from contracts.schema import DEFS, Typed, definitions, written
from contracts.values import Value

ROOT = Path(__file__).resolve().parents[1]
SNAPSHOTS = ROOT / "contracts" / "snapshots"
CHANGELOG = ROOT / "CHANGELOG.md"

#: Commands, facts and pushes, by name, that this version reads and does not write yet: for one release each.
NOT_YET_WRITTEN: frozenset[str] = frozenset()

#: Replies that end at the edge; those for clients pass it unread.
REPLIES: dict[str, type[Value]] = {"session.open": SessionOpened, "edge.alive": LeaseRenewed}


class Incompatible(Exception):
    """Raised when two versions could not run side by side, or a change is not in the changelog; the text says why."""


# --- What there is now ------------------------------------------------------------------------------------


def current(version: int) -> Schema:
    """The wire format that the code says, as a snapshot of this version."""
    return {
        "$comment": "Written by `python -m contracts` (make docs) from contracts/; not to be edited.",
        "version": version,
        "reads": {"$defs": _read()},
        "writes": {"$defs": _written()},
        "clients": {
            "events": {name: payload.__name__ for name, payload in CLIENT_EVENTS.items()},
            "acks": {name: data.__name__ for name, data in ACKS.items()},
            "pushes": {str(name): payload.__name__ for name, payload in PUSHES.items()},
        },
        "queues": {
            queue.name: {"arguments": queue.arguments, "bindings": [list(binding) for binding in queue.bindings]}
            for queue in topology.QUEUES
        },
        "samples": samples(),
    }


def _processes() -> list[type[Value]]:
    return [Bundle, FrameEnvelope, *REPLIES.values()]


def _read() -> dict[str, Schema]:
    return _of([(of, "validation") for of in (*_processes(), *CLIENT_EVENTS.values())])


def _written() -> dict[str, Schema]:
    defs = _of(written([*_processes(), *ACKS.values(), *PUSHES.values(), Error]))
    items = defs["Bundle"]["properties"]["items"]["items"]
    unwritten = [{"$ref": DEFS + of.__name__} for name, of in ITEMS.items() if name in NOT_YET_WRITTEN]
    items["oneOf"] = [branch for branch in items["oneOf"] if branch not in unwritten]
    event = defs["Push"]["properties"]["event"]
    event["enum"] = [name for name in event["enum"] if name not in NOT_YET_WRITTEN]
    return defs


def _of(types: list[Typed]) -> dict[str, Schema]:
    defs: dict[str, Schema] = _bare(definitions(types, DEFS))
    return defs


def _bare(node: Any) -> Any:
    """Without what only people read: other words are no other format."""
    if isinstance(node, list):
        return [_bare(part) for part in node]
    if not isinstance(node, dict):
        return node
    # Text is a description, a schema is a field of that name.
    return {key: _bare(part) for key, part in node.items() if key != "description" or isinstance(part, dict)}


# --- Samples ----------------------------------------------------------------------------------------------


def samples() -> dict[str, str]:
    """One message of each kind, as this version's codec writes it."""
    defs = _written()
    found = {}
    for name, of in ITEMS.items():
        item = json.dumps({"v": 1, "items": [_example(defs[of.__name__], defs)]})
        found[name] = encode_bundle(decode_bundle(item.encode())).decode()
    frame = json.dumps(_example(defs["FrameEnvelope"], defs))
    return {**found, "frame": encode_frame(decode_frame(frame.encode())).decode()}


def _example(schema: Schema, defs: dict[str, Schema]) -> Any:
    """A small value of a schema: its default, the first of what is listed, one of what may be many."""
    if "default" in schema:
        return schema["default"]
    if "$ref" in schema:
        return _example(defs[schema["$ref"].removeprefix(DEFS)], defs)
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return _example(choices[0], defs)
    if values := schema.get("enum"):
        return values[0]
    match schema:
        case {"const": value}:
            return value
        case {"type": "object"}:
            return {name: _example(field, defs) for name, field in schema.get("properties", {}).items()}
        case {"type": "array"}:
            return [_example(schema["items"], defs)]
        case {"type": "integer"}:
            return schema.get("minimum", 1)
        case {"type": "boolean"}:
            return True
    return "x"


# --- Two versions side by side ----------------------------------------------------------------------------


def differences(old: Schema, new: Schema) -> list[str]:
    """Why these two versions could not run side by side, or why a client of the old would stumble; empty is good."""
    return [*_between_processes(old, new), *_towards_clients(old, new), *_in_the_broker(old, new)]


def _between_processes(old: Schema, new: Schema) -> Iterator[str]:
    for writer, reader in ((new, old), (old, new)):
        who = f"Version {reader['version']} does not read what version {writer['version']} writes"
        compare = Comparison(writer["writes"], reader["reads"])
        for of in _processes():
            pair = writer["writes"]["$defs"][of.__name__], reader["reads"]["$defs"][of.__name__]
            yield from (f"{who}: {sentence}" for sentence in compare.misfits(*pair, of.__name__))


def _towards_clients(old: Schema, new: Schema) -> Iterator[str]:
    """The client protocol changes only by additions: a client of the old version writes and reads as it did."""
    kinds: tuple[tuple[str, str, Schema, Schema], ...] = (
        ("events", "event", old["reads"], new["reads"]),
        ("acks", "ack", new["writes"], old["writes"]),
        ("pushes", "push", new["writes"], old["writes"]),
    )
    for kind, one, writer, reader in kinds:
        compare = Comparison(writer, reader, skips_unknown=kind != "events")
        for name, of in old["clients"][kind].items():
            if name not in new["clients"][kind]:
                yield f"Clients of version {old['version']} know {one} {name}, which is gone"
                continue
            sent, taken = (of, new["clients"][kind][name])[:: 1 if kind == "events" else -1]
            found = compare.misfits(writer["$defs"][sent], reader["$defs"][taken], f"{one} {name}")
            yield from (f"Clients of version {old['version']} stumble: {sentence}" for sentence in found)


def _in_the_broker(old: Schema, new: Schema) -> Iterator[str]:
    bound = {tuple(binding) for queue in new["queues"].values() for binding in queue["bindings"]}
    for name, queue in old["queues"].items():
        if name in new["queues"] and queue["arguments"] != new["queues"][name]["arguments"]:
            yield f"Queue {name} has other arguments: RabbitMQ refuses to declare a queue anew; give it another name"
        for exchange, key in queue["bindings"]:
            if (exchange, key) not in bound:
                yield f"Version {old['version']} publishes {key} to {exchange}, and no queue is bound with it any more"


# --- On disk ----------------------------------------------------------------------------------------------


def stored() -> dict[int, Schema]:
    """Every snapshot by version, oldest first."""
    found = [json.loads(file.read_text()) for file in SNAPSHOTS.glob("*.json")]
    return {snapshot["version"]: snapshot for snapshot in sorted(found, key=lambda snapshot: snapshot["version"])}


def due(changelog: str, snapshots: dict[int, Schema]) -> Schema:
    """The snapshot that ought to be the newest on disk.

    Raises Incompatible when the wire format cannot follow the version before it, or is not in the changelog.
    """
    newest = max(snapshots, default=0)
    now = current(newest)
    if newest and now == snapshots[newest]:
        return now
    version = newest if newest in unreleased(changelog) else newest + 1
    if version not in unreleased(changelog):
        raise Incompatible(
            f"The wire format has changed since version {newest}, which is released: say what has changed under a "
            f"heading `### Wire format {version}` of Unreleased in CHANGELOG.md, then run this again."
        )
    now = current(version)
    before = snapshots.get(version - 1)
    if before and (found := differences(before, now)):
        raise Incompatible("\n".join([*found, 'See "Two versions side by side" in docs/design.md.']))
    return now


def unreleased(changelog: str) -> set[int]:
    """The versions whose heading stands under Unreleased."""
    _, _, rest = changelog.partition("## [Unreleased]")
    section, _, _ = rest.partition("\n## [")
    return headings(section)


def headings(changelog: str) -> set[int]:
    """The versions that have a heading."""
    return {int(number) for number in re.findall(r"^### Wire format (\d+)$", changelog, flags=re.MULTILINE)}
