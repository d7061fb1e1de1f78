"""The formula of unread counts. They are computed from a conversation's header and never incremented."""


def inbox_state(last_seq: int, read_seq: int) -> dict[str, int]:
    """The state {v, n} of an inbox entry: `n` messages are unread, and `v` orders states by time.

    `last_seq` and `read_seq` never decrease, so of two states the one with the higher `v` is newer. `v` is the first
    field, because MongoDB's `$max` compares embedded documents field by field.
    """
    read = min(read_seq, last_seq)
    return {"v": last_seq + read, "n": last_seq - read}
