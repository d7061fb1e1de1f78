"""`message`: what is said of where a message is."""

from datetime import UTC, datetime

import pytest

from infra.broker.dead_letters import DeadLetter
from infra.cli.locate_message import Copy, Location, Reader, Waiting, describe

NOW = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)
TIME = "2026-01-31T12:30:00.000Z"
EMPTY = Waiting(ready=0, unacked=0, consumers=2)


def said(*copies: Copy, exists: bool = True, waiting: Waiting = EMPTY, undecodable: int = 0) -> list[str]:
    return list(describe(Location(exists, waiting, list(copies), undecodable)))


def letter(queue: str, since: datetime | None = NOW) -> DeadLetter:
    return DeadLetter(queue, "KeyError: 'last'", since, 3, b"", ())


def test_a_stored_message_is_said_with_who_has_read_it_and_where_they_are() -> None:
    # Given a message with three readers
    readers = [
        Reader("bob", {"e2": NOW, "e1": None}, 7, NOW),
        Reader("cy", {}, 6, None),
        Reader("di", {}, 7, None),
    ]

    # Then each is said to have read it or not, and to be here or there
    assert said(Copy("ada", 7, NOW, readers)) == [
        f"Stored: message 7 of the conversation, by ada, at {TIME}.",
        f"  bob has read up to 7, last at {TIME}; connected to e1 (lease renewed never), e2 (lease renewed {TIME}).",
        "  cy has not read it; not connected; gets the message with the next snapshot.",
        "  di has read up to 7; not connected; gets the message with the next snapshot.",
    ]


def test_a_message_in_the_dead_letters_is_said_with_the_reason() -> None:
    assert said(Copy("ada", letters=[letter("persistence"), letter("persistence", None)])) == [
        f"The message by ada is in the dead letters of persistence since {TIME}: KeyError: 'last'",
        "The message by ada is in the dead letters of persistence since an unknown time: KeyError: 'last'",
    ]


def test_a_stored_message_that_was_not_counted_is_said_to_be_both() -> None:
    assert said(Copy("ada", 7, NOW, [], [letter("unread")])) == [
        f"Stored: message 7 of the conversation, by ada, at {TIME}.",
        f"The fact of it is in the dead letters of unread since {TIME}: KeyError: 'last'",
    ]


def test_two_senders_may_have_chosen_the_same_id() -> None:
    sentences = said(Copy("ada", 7, NOW), Copy("bob", 9, NOW))
    assert [sentence.split(", at")[0] for sentence in sentences] == [
        "Stored: message 7 of the conversation, by ada",
        "Stored: message 9 of the conversation, by bob",
    ]


@pytest.mark.parametrize("waiting", [Waiting(3, 200, 2), Waiting(0, 1, 1), Waiting(1, 0, 0)])
def test_a_message_that_is_nowhere_may_be_waiting(waiting: Waiting) -> None:
    (sentence,) = said(waiting=waiting)
    assert sentence.startswith("Not stored. It may be waiting in persistence")
    assert f"{waiting.ready} bundles ready and {waiting.unacked} with its {waiting.consumers} workers" in sentence


def test_a_message_that_nothing_is_known_of_was_never_received() -> None:
    assert said(exists=False) == ["Never received: the conversation does not exist, and nothing waits in the queue."]
    (sentence,) = said()
    assert sentence.startswith("Never received: it is neither stored nor waiting.")


def test_letters_that_nobody_can_read_may_hold_it() -> None:
    *_, sentence = said(undecodable=2)
    assert sentence == "2 dead letters of persistence cannot be decoded; it may be in one of them."
