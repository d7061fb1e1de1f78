"""The formulas of unread counts, and the order of totals. Counts are computed from a header and never incremented."""

#: Bits of a version for the writes of one second. The 33 others count seconds up to the year 2242.
WRITES_BITS = 20


def unread_count(last_seq: int, read_seq: int) -> int:
    """How many messages are unread when the newest one has `last_seq`, and those up to `read_seq` are read."""
    return max(0, last_seq - read_seq)


def inbox_state(last_seq: int, read_seq: int) -> dict[str, int]:
    """The state {v, n} of an inbox entry: `n` messages are unread, and `v` orders states by time.

    `last_seq` and `read_seq` never decrease, so of two states the one with the higher `v` is newer. `v` is the first
    field, because MongoDB's `$max` compares embedded documents field by field.
    """
    return {"v": last_seq + min(read_seq, last_seq), "n": unread_count(last_seq, read_seq)}


def total_version(seconds: int, increment: int) -> int:
    """The version of a total that was read from the store as it was at this time of its log.

    The store's log gives each write a time of its own: seconds, and a number within the second. JavaScript represents
    the version exactly. States of one second beyond `2 ** WRITES_BITS` writes share a version.
    """
    return (seconds << WRITES_BITS) | min(increment, (1 << WRITES_BITS) - 1)
