"""`dead-letters`: since when, and how a letter is shown on a terminal."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from contracts.codec import encode_bundle
from infra.broker.dead_letters import DeadLetter
from infra.cli.dead_letters import parse_since, render
from tests.support.sample_commands import send

# --- Since ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1_800), ("2h", 7_200), ("3d", 259_200), ("2026-01-31T11:00", 3_600)]
)
def test_since_is_so_long_ago_or_a_time(text: str, seconds: int) -> None:
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert parse_since(text, now) == now - timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "2", "h", "-1h", "2 h", "9999999d", "yesterday"])
def test_other_words_for_since_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_since(text, datetime.now(UTC))


def test_a_time_may_have_a_zone() -> None:
    moment = datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=5)))
    assert parse_since(moment.isoformat(), datetime.now(UTC)) == moment


# --- What a letter looks like -----------------------------------------------------------------------------


def letter(body: bytes) -> DeadLetter:
    return DeadLetter("persistence", "ValueError: no", None, 3, body, ())


def test_a_letter_is_indented_json_with_long_bodies_cut_unless_all_is_asked_for() -> None:
    # Given a letter with a long message and a short one
    found = letter(encode_bundle([send("ada", "c", "m1", body="secret " * 50), send("bob", "c", "m2")]))

    # Then only the start of the long one is shown, with its length
    bodies = [item["payload"]["body"] for item in json.loads(render(found))["items"]]
    assert bodies == [("secret " * 50)[:60] + "… (349 characters)", "hello"]
    # And all of it when that is asked for
    full = json.loads(render(found, full=True))
    assert [item["payload"]["body"] for item in full["items"]] == [("secret " * 50).strip(), "hello"]


@pytest.mark.parametrize("value", [{"body": 7}, {"body": None}, [], "text", {"a": "x" * 500}, {"body": ["x" * 500]}])
def test_json_that_is_nothing_of_ours_is_shown_as_it_is(value: Any) -> None:
    assert json.loads(render(letter(json.dumps(value).encode()))) == value


def test_bytes_that_are_no_json_are_shown_escaped_and_cut() -> None:
    body = b"\x00\x1b[31mred" * 100
    assert "\x1b" not in render(letter(body))
    assert len(render(letter(body))) < 1_000 < len(render(letter(body), full=True))


def test_no_letter_can_move_or_colour_the_terminal() -> None:
    shown = render(letter(json.dumps({"title": "\x1b[2J\u202eevil\x07"}, ensure_ascii=False).encode()))
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
