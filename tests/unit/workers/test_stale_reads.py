"""Reads whose clients no longer wait are not answered."""

from typing import Any

from contracts.facts import MessageStored
from tests.support.sample_commands import list_messages
from workers.stale_reads import STALE_AFTER, without_stale


def aged(command: Any, seconds: float) -> Any:
    return command.model_copy(update={"at": command.at - int(seconds * 1000)})


def test_reads_are_left_out_once_they_are_stale() -> None:
    fresh, stale = aged(list_messages("ada", "c"), STALE_AFTER - 5), aged(list_messages("ada", "c"), STALE_AFTER + 5)
    fact = MessageStored(conversation_id="c", seq=1, sender_id="ada", sender_was_behind=False)
    assert without_stale([stale, fact, fresh]) == [fresh]
