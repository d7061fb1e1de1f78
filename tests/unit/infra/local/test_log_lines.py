"""Log lines as people read them."""

import json

import pytest

from infra.local.log_lines import LogLine, parse

ENTRY = {"time": "2026-01-31 12:30:00,123", "level": "INFO", "logger": "edge.app", "process": "edge 8001"}


def line(**fields: object) -> str:
    return json.dumps({**ENTRY, **fields})


def test_an_entry_has_time_level_and_message() -> None:
    found = parse(line(message="Edge starts."))
    assert found == LogLine("Edge starts.", "2026-01-31 12:30:00,123", "INFO")
    assert found.time_of_day == "12:30:00"
    assert found.text == "2026-01-31 12:30:00,123 INFO Edge starts."


def test_further_fields_stand_behind_the_message_and_a_traceback_below_it() -> None:
    found = parse(line(message="Failed.", user="ada", exc_info="Traceback:\n  ValueError: x"))
    assert found.message == "Failed. user=ada\n    Traceback:\n      ValueError: x"


@pytest.mark.parametrize("text", ["plain text", '{"no": "message"}', "[1, 2]", '"a string"', "{half"])
def test_what_is_no_entry_is_shown_as_it_is(text: str) -> None:
    assert parse(text) == LogLine(text)
    assert parse(text).text == text


@pytest.mark.parametrize("text", ["\x1b[2J gone", "line\nbreak", "bell\x07"])
def test_nothing_that_a_client_chose_controls_the_terminal(text: str) -> None:
    assert parse(line(message=text)).message.isprintable()
    assert parse(text).message.isprintable()
