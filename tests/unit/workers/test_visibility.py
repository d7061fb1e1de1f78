"""Before its first message a conversation is visible to those alone who started it."""

from tests.unit.workers.fakes import header
from workers.visibility import may_see, viewers


def test_without_a_message_only_its_initiator_sees_a_conversation() -> None:
    empty = header("ada", "bob", "cy")
    assert viewers(empty) == ["ada"]
    assert [may_see(empty, user) for user in ("ada", "bob", "cy", "eve")] == [True, False, False, False]


def test_whoever_starts_the_same_conversation_as_well_sees_it_too() -> None:
    assert viewers(header("ada", "bob", opened_by=("ada", "bob"))) == ["ada", "bob"]


def test_with_a_message_every_participant_sees_it_and_nobody_else() -> None:
    lively = header("ada", "bob", "cy", last_seq=1)
    assert viewers(lively) == ["ada", "bob", "cy"]
    assert not may_see(lively, "eve")


def test_to_have_opened_a_conversation_is_no_way_in_for_a_stranger() -> None:
    assert viewers(header("ada", "bob", opened_by=("eve",))) == []
    assert not may_see(header("ada", "bob", opened_by=("eve",), last_seq=1), "eve")
