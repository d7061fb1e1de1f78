"""Two versions run side by side while one is rolled out: what either writes, the other reads."""

import copy
import json
from collections.abc import Callable
from typing import Any, Literal

import pytest
from jsonschema import Draft202012Validator
from pydantic import Field, ValidationError

from contracts import snapshot
from contracts.codec import decode_bundle, decode_frame
from contracts.compatibility import Comparison, Schema
from contracts.schema import DEFS, definitions
from contracts.snapshot import Incompatible, differences, expected, headings, stored
from contracts.values import Value

CHANGELOG = snapshot.CHANGELOG.read_text()
SNAPSHOTS = stored()
NEWEST = max(SNAPSHOTS)
#: The version that today's meets in a rolling deploy; the first one has none before it.
PREVIOUS = SNAPSHOTS.get(NEWEST - 1, SNAPSHOTS[NEWEST])


TODAY = snapshot.current(NEWEST)


def current(version: int) -> Schema:
    """Today's wire format as that of any version, to be changed at will."""
    return {**copy.deepcopy(TODAY), "version": version}


# --- What is committed ------------------------------------------------------------------------------------


def test_every_version_has_an_entry_in_the_changelog() -> None:
    assert set(SNAPSHOTS) - headings(CHANGELOG) == set(), "say what changed under `### Wire format N`"


def test_every_version_and_the_next_can_run_side_by_side() -> None:
    for version in sorted(SNAPSHOTS)[1:]:
        assert differences(SNAPSHOTS[version - 1], SNAPSHOTS[version]) == []


@pytest.mark.parametrize("name", PREVIOUS["samples"])
def test_what_the_previous_version_wrote_is_read_today(name: str) -> None:
    body = PREVIOUS["samples"][name].encode()
    if name == "frame":
        assert decode_frame(body).number == 1
    else:
        assert [item.name for item in decode_bundle(body)] == [name]


def test_what_is_written_today_is_read_by_the_previous_version() -> None:
    for name, body in TODAY["samples"].items():
        of = "FrameEnvelope" if name == "frame" else "Bundle"
        reader = {"$ref": f"{DEFS}{of}", "$defs": PREVIOUS["reads"]["$defs"]}
        Draft202012Validator(reader).validate(json.loads(body))


# --- Changes that are refused -----------------------------------------------------------------------------


def defs(schema: Schema, direction: Literal["reads", "writes"], name: str) -> dict[str, Any]:
    found: dict[str, Any] = schema[direction]["$defs"][name]
    return found


def both(schema: Schema, name: str) -> list[dict[str, Any]]:
    """A type as it is read and as it is written."""
    return [defs(schema, "reads", name), defs(schema, "writes", name)]


def field_removed(new: Schema) -> None:
    for of in both(new, "SendMessage"):
        del of["properties"]["sid"]
        of["required"].remove("sid")


def field_renamed(new: Schema) -> None:
    for of in both(new, "MessageStored"):
        of["properties"]["number"] = of["properties"].pop("seq")
        of["required"] = ["number" if name == "seq" else name for name in of["required"]]


def required_field_added(new: Schema) -> None:
    for of in both(new, "LeaseRenew"):
        of["properties"]["load"] = {"type": "integer"}
        of["required"].append("load")


def optional_field_added(new: Schema) -> None:
    for of in both(new, "Reply"):
        of["properties"]["late"] = {"type": "boolean", "default": False}


def type_changed(new: Schema) -> None:
    for of in both(new, "Frame"):
        of["properties"]["number"] = {"type": "string"}


def body_narrowed(new: Schema) -> None:
    for of in both(new, "SendMessagePayload"):
        of["properties"]["body"]["maxLength"] = 100


def body_widened(new: Schema) -> None:
    for of in both(new, "SendMessagePayload"):
        of["properties"]["body"]["maxLength"] = 8000


def pattern_changed(new: Schema) -> None:
    for of in both(new, "SendMessagePayload"):
        of["properties"]["client_message_id"]["pattern"] = "^[a-z]{1,64}$"


def null_allowed(new: Schema) -> None:
    for of in both(new, "Reply"):
        of["properties"]["ack"] = {"anyOf": [{"type": "string"}, {"type": "null"}]}


def push_added(new: Schema) -> None:
    for of in both(new, "Push"):
        of["properties"]["event"]["enum"].append("message_edited")


def command_added(new: Schema) -> None:
    for direction in ("reads", "writes"):
        schemas = new[direction]["$defs"]
        schemas["Shout"] = copy.deepcopy(schemas["LeaseRenew"])
        schemas["Shout"]["properties"]["name"]["const"] = "shout"
        schemas["Bundle"]["properties"]["items"]["items"]["oneOf"].append({"$ref": f"{DEFS}Shout"})


def version_of_the_envelope_raised(new: Schema) -> None:
    for of in both(new, "Bundle"):
        of["properties"]["v"]["const"] = 2


def queue_changed(new: Schema) -> None:
    new["queues"]["persistence"]["arguments"]["x-delivery-limit"] = 20


def binding_dropped(new: Schema) -> None:
    new["queues"]["unread"]["bindings"].pop()


def client_event_dropped(new: Schema) -> None:
    del new["clients"]["events"]["find_users"]


def client_must_say_more(new: Schema) -> None:
    defs(new, "reads", "ListMessagesPayload")["required"].append("limit")


def client_is_told_less(new: Schema) -> None:
    del defs(new, "writes", "Message")["properties"]["sent_at"]
    defs(new, "writes", "Message")["required"].remove("sent_at")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (field_removed, "Bundle.items[].send_message.sid: readers need it, and it is not always written"),
        (field_renamed, "message.stored.number: is written, and readers refuse"),
        (required_field_added, "lease.renew.load: is written, and readers refuse"),
        (required_field_added, "lease.renew.load: readers need it"),
        (optional_field_added, "frame.replies[].late: is written, and readers refuse"),
        (type_changed, "frame.number: is written as string and read as integer"),
        (body_narrowed, "send_message.payload.body: maxLength is 100 where it is read and 4000"),
        (body_widened, "send_message.payload.body: maxLength is 4000 where it is read and 8000"),
        (pattern_changed, "client_message_id: is read by another pattern"),
        (null_allowed, "replies[].ack: is written as null and read as string"),
        (push_added, "event: 'message_edited' is written and not read"),
        (command_added, "Bundle.items[]: nobody reads shout"),
        (version_of_the_envelope_raised, "Bundle.v: 2 is written and not read"),
        (queue_changed, "Queue persistence has other arguments"),
        (binding_dropped, "publishes message.stored to warren.facts, and no queue"),
        (client_event_dropped, "use event find_users, which was removed"),
        (client_must_say_more, "event list_messages.limit: readers need it"),
        (client_is_told_less, "push new_message.message.sent_at: readers need it"),
    ],
)
def test_a_change_that_the_other_version_could_not_stand_is_refused(
    change: Callable[[Schema], None], sentence: str
) -> None:
    old, new = current(1), current(2)
    change(new)
    found = differences(old, new)
    assert any(sentence in said for said in found), found


def test_no_change_and_what_clients_skip_is_fine() -> None:
    old, new = current(1), current(2)
    assert differences(old, new) == []
    message = defs(new, "writes", "Message")
    message["properties"]["edited_at"] = {"type": "string"}
    message["required"].append("edited_at")
    new["clients"]["pushes"]["message_edited"] = "NewMessage"
    assert differences(old, new) == []


# --- The two steps ----------------------------------------------------------------------------------------


class Before(Value):
    seq: int


class Reads(Value):
    """The field is read, and not written yet."""

    seq: int
    colour: str | None = Field(default=None, exclude=True)


class Writes(Value):
    seq: int
    colour: str | None = None


def fits(writer: type[Value], reader: type[Value]) -> bool:
    """What the schemas say of two types; a real message has to prove it right."""
    written = {"$defs": definitions([(writer, "serialization")], DEFS)}
    read = {"$defs": definitions([(reader, "validation")], DEFS)}
    compare = Comparison(written, read)
    said = not list(compare.incompatibilities(written["$defs"][writer.__name__], read["$defs"][reader.__name__], "it"))
    try:
        reader.model_validate_json(writer.model_validate({"seq": 1}).model_dump_json())
        done = True
    except ValidationError:
        done = False
    assert said is done, f"{reader.__name__} reads what {writer.__name__} writes: {done}, but the schemas say {said}"
    return said


def test_a_field_comes_in_two_steps_and_goes_in_the_same_ones_backwards() -> None:
    neighbours: list[tuple[type[Value], type[Value]]] = [(Before, Reads), (Reads, Writes)]
    for one, other in neighbours:
        assert fits(one, other)
        assert fits(other, one)
    assert not fits(Writes, Before)


def test_a_new_name_is_read_by_one_version_before_it_is_written_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a version that knows neither, one that reads both, and one that writes them
    whole = current(3)
    monkeypatch.setattr(snapshot, "NOT_YET_WRITTEN", frozenset({"sessions.drop", "typing"}))
    reading = snapshot.current(2)
    without = copy.deepcopy(reading)
    without["version"] = 1
    items = defs(without, "reads", "Bundle")["properties"]["items"]["items"]
    items["oneOf"] = [each for each in items["oneOf"] if not each["$ref"].endswith(("/SessionsDrop", "/Typing"))]
    defs(without, "reads", "Push")["properties"]["event"]["enum"].remove("typing")
    assert differences(without, reading) == []
    assert differences(reading, whole) == []
    assert any("nobody reads sessions.drop" in said for said in differences(without, whole))
    assert any("'typing' is written and not read" in said for said in differences(without, whole))


# --- Accepting a version ----------------------------------------------------------------------------------

RELEASED = "# Changelog\n\n## [Unreleased]\n\n## [0.1.0]\n\n### Wire format 1\n"
NEXT = RELEASED.replace("## [Unreleased]", "## [Unreleased]\n\n### Wire format 2\n")
FIRST = "# Changelog\n\n## [Unreleased]\n\n### Wire format 1\n"


def changed_by(change: Callable[[Schema], None]) -> Schema:
    """A first version that differs from what the code says today."""
    old = current(1)
    change(old)
    return old


def client_was_told_less(old: Schema) -> None:
    del defs(old, "writes", "Message")["properties"]["sent_at"]


def test_what_has_not_changed_stays_the_version_it_is() -> None:
    assert expected(RELEASED, {1: current(1)}) == current(1)


def test_a_version_that_was_never_released_may_change() -> None:
    assert expected(FIRST, {1: changed_by(field_removed)}) == current(1)


def test_a_released_version_is_followed_by_another_that_the_changelog_tells_of() -> None:
    old = changed_by(client_was_told_less)
    with pytest.raises(Incompatible, match="`### Wire format 2` of Unreleased"):
        expected(RELEASED, {1: old})
    assert expected(NEXT, {1: old}) == current(2)


def test_a_version_that_could_not_follow_the_one_before_is_refused() -> None:
    with pytest.raises(Incompatible, match="Version 1 does not read what version 2 writes"):
        expected(NEXT, {1: changed_by(field_removed)})
