"""Ids can be derived again by anyone, and never meet."""

from hypothesis import given
from hypothesis import strategies as st

from contracts.ids import direct_conversation_id, group_conversation_id, message_id

# What was stored is found by these for ever: they may not change.
MESSAGE = "5993e441-b6ab-5db7-b458-d74bf7d39f07"
DIRECT = "21fc6338-981d-5b59-98a9-2c8ae83ab6ac"
GROUP = "e6b7f2ba-f99e-547a-9dc8-bd20c0f61454"

lines = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=128)


def test_ids_are_the_same_in_every_process_and_release() -> None:
    assert message_id("c", "ada", "1") == MESSAGE
    assert direct_conversation_id("ada", "grace") == DIRECT
    assert group_conversation_id("e") == GROUP


@given(lines, lines)
def test_a_direct_conversation_is_the_same_from_both_sides(one: str, other: str) -> None:
    assert direct_conversation_id(one, other) == direct_conversation_id(other, one)


@given(lines, lines, lines)
def test_a_direct_conversation_is_of_one_pair_alone(one: str, other: str, third: str) -> None:
    same = direct_conversation_id(one, other) == direct_conversation_id(one, third)
    assert same == (other == third)


@given(st.tuples(lines, lines, lines), st.tuples(lines, lines, lines))
def test_a_message_is_of_its_conversation_sender_and_number(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    assert (message_id(*one) == message_id(*other)) == (one == other)


@given(lines, lines)
def test_kinds_of_id_never_meet(one: str, other: str) -> None:
    # The same parts in each: only the namespace tells them apart.
    assert direct_conversation_id(one, other) != group_conversation_id("\n".join(sorted((one, other))))
    assert direct_conversation_id(one, other) not in (message_id(one, other, "1"), message_id(other, one, "1"))


@given(lines, lines)
def test_a_group_is_of_one_command(nonce: str, other: str) -> None:
    assert (group_conversation_id(nonce) == group_conversation_id(other)) == (nonce == other)
