"""The one formula of unread counts: what a conversation's header says, and nothing that was counted up."""


def inbox_state(last_seq: int, read_seq: int) -> dict[str, int]:
    """The state {v, n} of an inbox entry: n messages are unread, and v orders states in time.

    Neither `last_seq` nor `read_seq` ever moves back, so of two states the one with the higher v is the newer. `v`
    comes first because the store's `$max` compares embedded documents field by field.
    """
    read = min(read_seq, last_seq)
    return {"v": last_seq + read, "n": last_seq - read}
