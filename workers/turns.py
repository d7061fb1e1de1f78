"""Users take turns in a batch of reads, and a large batch is divided: one user's reads delay others' by one part."""

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from contracts.codec import Item
from contracts.commands import ClientCommand, items_read

#: Items that one part reads at most, unless a single command reads more. Messages of 16 KB make about 120 MB of it.
PART_ITEMS = 2_500

AnyItem = TypeVar("AnyItem", bound=Item)


def in_turns(items: Sequence[AnyItem]) -> list[AnyItem]:
    """The first command of each user, then the second of each, and so on."""
    taken: Counter[str] = Counter()
    turns: list[int] = []
    for item in items:
        user_id = item.user_id if isinstance(item, ClientCommand) else ""
        turns.append(taken[user_id])
        taken[user_id] += 1
    return [item for _, item in sorted(zip(turns, items, strict=True), key=lambda pair: pair[0])]


def parts_of_reads(items: Sequence[Item]) -> list[list[Item]]:
    """The items in turns, in parts that read up to `PART_ITEMS` each."""
    parts: list[list[Item]] = [[]]
    size = 0
    for item in in_turns(items):
        reads = items_read(item.payload) if isinstance(item, ClientCommand) else 0
        if parts[-1] and size + reads > PART_ITEMS:
            parts.append([])
            size = 0
        parts[-1].append(item)
        size += reads
    return parts
