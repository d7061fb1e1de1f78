"""The generated documents are fresh, valid, and say what the code does."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from contracts import __main__ as documents
from contracts.acks import ACKS
from contracts.asyncapi import document
from contracts.codec import decode_payload
from contracts.commands import CLIENT_EVENTS
from contracts.errors import Code, Refused, not_found
from contracts.pushes import PUSHES
from contracts.schema import client_schema
from contracts.topology import QUEUES


def test_generated_files_are_fresh() -> None:
    assert documents.stale() == [], "stale: run `make docs`"


def test_check_says_which_file_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(documents, "DOCS", tmp_path / "docs")
    assert documents.main(["--check"]) == 1
    assert "docs/asyncapi.json is out of date" in capsys.readouterr().err
    assert documents.main([]) == 0
    assert documents.main(["--check"]) == 0
    (tmp_path / "docs" / "asyncapi.json").write_text("{}")
    assert documents.main(["--check"]) == 1


def test_the_same_contracts_give_the_same_bytes() -> None:
    assert documents.generated() == documents.generated()


# --- JSON Schema ------------------------------------------------------------------------------------------


SCHEMA = client_schema()
DEFS: dict[str, Any] = SCHEMA["$defs"]


def references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for part in node.values() for found in references(part)]
    return [found for part in node for found in references(part)] if isinstance(node, list) else []


def resolves(reference: str, within: object) -> bool:
    for part in reference.removeprefix("#/").split("/"):
        if not isinstance(within, dict) or part not in within:
            return False
        within = within[part]
    return True


def test_the_schema_is_valid_and_every_reference_leads_somewhere() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert [reference for reference in references(SCHEMA) if not resolves(reference, SCHEMA)] == []


def test_every_event_ack_push_and_code_is_in_the_schema() -> None:
    # Given what the schema says
    commands, pushes = DEFS["Commands"]["properties"], DEFS["Pushes"]["properties"]

    # Then it has what the code has
    assert {name: command["properties"]["payload"]["$ref"] for name, command in commands.items()} == {
        name: f"#/$defs/{payload.__name__}" for name, payload in CLIENT_EVENTS.items()
    }
    assert {name: command["properties"]["data"]["$ref"] for name, command in commands.items()} == {
        name: f"#/$defs/{data.__name__}" for name, data in ACKS.items()
    }
    assert {name: push["$ref"] for name, push in pushes.items()} == {
        str(name): f"#/$defs/{payload.__name__}" for name, payload in PUSHES.items()
    }
    assert DEFS["Code"]["enum"] == list(Code)


def test_every_type_is_named_and_closed_and_a_server_leaves_nothing_out() -> None:
    sent_by_clients = {payload.__name__ for payload in CLIENT_EVENTS.values()}
    for name, definition in DEFS.items():
        assert definition["title"] == name
        if definition["type"] == "object":
            assert definition["additionalProperties"] is False
            if name not in sent_by_clients:
                assert set(definition.get("required", [])) == set(definition["properties"])


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        ("send_message", {"conversation_id": "c", "client_message_id": "1", "body": "x" * 4000}),
        ("send_message", {"conversation_id": "c", "client_message_id": "1", "body": "x" * 4001}),
        ("send_message", {"conversation_id": "c", "client_message_id": "a b", "body": "x"}),
        ("send_message", {"conversation_id": "c", "client_message_id": "1"}),
        ("message_seen", {"conversation_id": "c", "seq": 0}),
        ("message_seen", {"conversation_id": "c", "seq": 1}),
        ("list_conversations", {}),
        ("list_conversations", {"limit": 101}),
        ("list_conversations", {"cursor": None}),
        ("find_users", {"query": None}),
        ("get_presence", {"user_ids": []}),
        ("get_presence", {"user_ids": ["a\nb"]}),
        ("start_conversation", {"participant_ids": ["x" * 128], "title": None}),
        ("start_conversation", {"participant_ids": ["x" * 129]}),
        ("typing", {"conversation_id": "c", "typing": 1}),
        ("typing", {"conversation_id": "c", "typing": True, "extra": 1}),
    ],
)
def test_schema_and_codec_agree(event: str, payload: dict[str, Any]) -> None:
    try:
        decode_payload(CLIENT_EVENTS[event], payload)
        taken = True
    except Refused:
        taken = False
    definition = {"$ref": f"#/$defs/{CLIENT_EVENTS[event].__name__}", "$defs": DEFS}
    assert Draft202012Validator(definition).is_valid(payload) is taken


def test_an_ack_is_its_data_or_a_refusal() -> None:
    ack = Draft202012Validator({**DEFS["Commands"]["properties"]["typing"]["properties"]["ack"], "$defs": DEFS})
    refusal = {"ok": False, "error": not_found().error.model_dump(mode="json")}
    assert ack.is_valid({"ok": True, "data": {}})
    assert ack.is_valid(refusal)
    assert not ack.is_valid({"ok": True, "data": {"extra": 1}})
    assert not ack.is_valid({**refusal, "ok": True})


# --- AsyncAPI ---------------------------------------------------------------------------------------------


ASYNCAPI = document()


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    assert [reference for reference in references(ASYNCAPI) if not resolves(reference, ASYNCAPI)] == []


def test_an_operation_names_messages_of_its_channel() -> None:
    for operation in ASYNCAPI["operations"].values():
        channel = operation["channel"]["$ref"]
        assert all(message["$ref"].startswith(f"{channel}/messages/") for message in operation["messages"])


def test_every_event_push_and_queue_is_in_the_asyncapi_document() -> None:
    channels = ASYNCAPI["channels"]
    events = {f"event.{name}" for name in CLIENT_EVENTS} | {f"push.{name}" for name in PUSHES}
    assert events | {f"queue.{queue.name}" for queue in QUEUES} <= set(channels)
    for queue in QUEUES:
        channel = channels[f"queue.{queue.name}"]
        assert channel["x-arguments"] == queue.arguments
        bound = [(binding["exchange"], binding["routingKey"]) for binding in channel["x-bound-to"]]
        assert bound == list(queue.bindings)


def test_every_schema_of_the_asyncapi_document_is_valid() -> None:
    for schema in ASYNCAPI["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_generated_files_name_no_machine() -> None:
    for text in documents.generated().values():
        json.loads(text)
        assert str(documents.DOCS.parent) not in text
