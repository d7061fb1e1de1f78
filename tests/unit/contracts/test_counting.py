"""The formula of unread counts: whatever order states arrive in, the newest one stays and is right."""

from hypothesis import given
from hypothesis import strategies as st

from contracts.counting import inbox_state, total_version
from contracts.values import MAX_SAFE_INTEGER

seqs = st.integers(min_value=0, max_value=2**40)


def store_max(states: list[dict[str, int]]) -> dict[str, int]:
    """What MongoDB's `$max` leaves of embedded documents: it compares them field by field, in order."""
    return max(states, key=lambda state: tuple(state.values()))


@given(seqs, seqs)
def test_nobody_has_less_than_nothing_unread(last: int, read: int) -> None:
    state = inbox_state(last, read)
    assert state["n"] == max(0, last - read)
    assert list(state) == ["v", "n"], "the version comes first, or $max compares counts"


@given(seqs, seqs, seqs, seqs)
def test_a_later_state_has_a_higher_version_or_is_the_same(last: int, read: int, more: int, further: int) -> None:
    # Neither number ever moves back, and nobody reads beyond what there is.
    read = min(read, last)
    before, after = inbox_state(last, read), inbox_state(last + more, min(read + further, last + more))
    assert store_max([before, after]) == after
    assert (after["v"] == before["v"]) == (after == before)


@given(st.data())
def test_states_in_any_order_and_any_number_end_with_the_newest(data: st.DataObject) -> None:
    steps = data.draw(st.lists(st.booleans(), min_size=1, max_size=30))
    last = read = 0
    history = [inbox_state(last, read)]
    for arrived in steps:
        last, read = (last + 1, read) if arrived else (last, min(read + 1, last))
        history.append(inbox_state(last, read))
    shuffled = data.draw(st.permutations(history + history[:5]))
    assert store_max(shuffled) == {"v": last + read, "n": last - read}


@given(seqs, seqs)
def test_clients_can_derive_the_version(last: int, read: int) -> None:
    # docs/protocol.md tells clients to order unread_updated by last_seq + last_read_seq.
    read = min(read, last)
    assert last + read == inbox_state(last, read)["v"]


times = st.tuples(st.integers(0, 2**33 - 1), st.integers(1, 2**20 - 1))


@given(times, times)
def test_versions_of_totals_order_as_the_times_of_the_log_and_are_exact_in_javascript(
    one: tuple[int, int], other: tuple[int, int]
) -> None:
    assert (total_version(*one) < total_version(*other)) == (one < other)
    assert total_version(*one) <= MAX_SAFE_INTEGER


def test_a_second_with_very_many_writes_never_reaches_into_the_next() -> None:
    assert total_version(7, 2**20 - 1) == total_version(7, 2**31) < total_version(8, 1)
