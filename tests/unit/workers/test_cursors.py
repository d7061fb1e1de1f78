"""Cursors: text that leads back to where a page ended, and nothing else is one."""

import base64
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import Code, Refused
from tests.unit.workers.fakes import NOW, header
from workers.cursors import read_cursor, write_cursor


@pytest.mark.parametrize("conversation_id", ["c1", "7e57ab1e-0000-5000-8000-000000000000", "with spaces and ünï 😀"])
def test_a_cursor_leads_back_to_where_a_page_ended(conversation_id: str) -> None:
    cursor = write_cursor(header("ada", "bob", _id=conversation_id))
    assert read_cursor(cursor) == (NOW, conversation_id)


def test_a_cursor_is_fit_for_a_url() -> None:
    cursor = write_cursor(header("ada", "bob", _id="?" * 50 + "~" * 50))
    assert cursor.replace("-", "").replace("_", "").isalnum()


def test_a_time_of_another_zone_is_the_same_moment() -> None:
    text = f"{NOW.astimezone(timezone(timedelta(hours=5))).isoformat()} c1"
    moment, _ = read_cursor(base64.urlsafe_b64encode(text.encode()).decode())
    assert (moment, moment.tzinfo) == (NOW, UTC)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "nonsense",
        "=",
        "a",
        "!!!!",
        "é",
        "\x00",
        base64.urlsafe_b64encode(b"2026-01-31T12:30:00Z").decode(),
        base64.urlsafe_b64encode(b"yesterday c1").decode(),
        base64.urlsafe_b64encode(b"0001-01-01T00:00:00+23:59 c1").decode(),
        base64.urlsafe_b64encode(b"9999-12-31T23:59:59-23:59 c1").decode(),
        base64.urlsafe_b64encode(b"\xff\xfe c1").decode(),
        base64.urlsafe_b64encode(b'{"$gt":""}').decode(),
    ],
)
def test_what_we_did_not_hand_out_is_an_invalid_payload(cursor: str) -> None:
    with pytest.raises(Refused) as refused:
        read_cursor(cursor)
    assert refused.value.code == Code.INVALID_PAYLOAD
    assert [detail["field"] for detail in refused.value.error.details] == ["cursor"]


@given(cursor=st.text(max_size=200))
def test_any_text_is_a_position_or_a_refusal(cursor: str) -> None:
    try:
        moment, conversation_id = read_cursor(cursor)
    except Refused:
        return
    assert isinstance(moment, datetime)
    assert isinstance(conversation_id, str)
