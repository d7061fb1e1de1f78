"""Turns: whose commands come first, and how much one part of a batch reads."""

from contracts.codec import Item
from contracts.commands import CONVERSATION_ITEMS
from tests.support.sample_commands import find_users, list_conversations, list_messages
from workers.turns import PART_ITEMS, in_turns, parts_of_reads


def test_users_take_turns_and_keep_their_own_order() -> None:
    a1, a2, a3, b1, b2 = (find_users(user) for user in ("ada", "ada", "ada", "bob", "bob"))
    assert in_turns([a1, a2, a3, b1, b2]) == [a1, b1, a2, b2, a3]


def test_a_small_batch_is_one_part() -> None:
    batch: list[Item] = [list_messages("ada", "c"), list_conversations("bob")]
    assert parts_of_reads(batch) == [batch]


def test_a_batch_of_large_reads_is_divided_and_others_are_in_its_first_part() -> None:
    # Given as many reads as one user may have unanswered, and another user's after them
    flood = [list_messages("mallory", "c", limit=100) for _ in range(100)]
    own = list_conversations("bob", limit=50)

    # When the batch is divided
    parts = parts_of_reads([*flood, own])

    # Then each part reads a bounded number of items, nothing is lost, and the other's is in the first
    whole: list[Item] = [item for part in parts for item in part]
    assert sorted(whole, key=id) == sorted([*flood, own], key=id)
    assert own in parts[0]
    assert (len(parts[0]) - 1) * 100 + 50 * CONVERSATION_ITEMS <= PART_ITEMS
    assert all(len(part) * 100 <= PART_ITEMS for part in parts[1:])
