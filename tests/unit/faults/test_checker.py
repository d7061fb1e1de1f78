"""The fault suite's checker finds what it is there to find: each test seeds one fault into a good run."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.faults.checker import (
    DUPLICATED,
    GAPS,
    KINDS,
    LOST,
    OUT_OF_ORDER,
    REFUSED,
    WRONG_UNREAD,
    check,
)
from tests.faults.histories import Ack, Counts, Header, Histories, Screen, Sending, Store, Stored

CHAT = "chat"
SENDERS = ["ada", "bob", "ada", "ada", "bob"]


def good() -> Histories:
    """Ada and Bob wrote five messages in turn; Bob wrote the last one, Ada has read all but that."""
    messages = [Stored(f"id{seq}", CHAT, seq, sender, f"m{seq}") for seq, sender in enumerate(SENDERS, start=1)]
    sendings = [
        Sending(
            CHAT, each.sender_id, each.client_message_id, 1.0, 1.1, 1, 1, each.seq, [Ack(each.id, each.seq, "noon")]
        )
        for each in messages
    ]
    read = {"ada": 4, "bob": 5}
    screens = [Screen("ada"), Screen("bob")]
    for screen in screens:
        view = screen.views[CHAT]
        for each in messages:
            view.take_message({"id": each.id, "seq": each.seq, "sender_id": each.sender_id})
        view.take_count({"last_read_seq": read[screen.user_id], "unread_count": 5 - read[screen.user_id]})
    store = Store(messages, {CHAT: Header(CHAT, 5, "id5", read)}, {("ada", CHAT): 1})
    counts = [Counts("ada", {CHAT: 1}, 1), Counts("bob", {CHAT: 0}, 0)]
    return Histories(sendings, screens, store, counts, [(CHAT, "ada", 4)])


def test_a_good_run_has_no_complaints() -> None:
    verdict = check(good())
    assert (verdict.sent, verdict.acked, verdict.stored, verdict.complaints) == (5, 5, 5, [])


# --- Faults in the store ----------------------------------------------------------------------------------


def drop_from_the_end(run: Histories) -> None:
    """The newest message is gone, and the header with it: no gap tells."""
    run.store.messages.pop()
    run.store.headers[CHAT] = Header(CHAT, 4, "id4", {"ada": 4, "bob": 4})


def drop_from_the_middle(run: Histories) -> None:
    del run.store.messages[2]


def store_twice(run: Histories) -> None:
    """The same message has two ids and two places."""
    run.store.messages.append(replace(run.store.messages[4], id="id6", seq=6))


def give_a_seq_twice(run: Histories) -> None:
    run.store.messages[4] = replace(run.store.messages[4], seq=4)


def swap_one_senders_messages(run: Histories) -> None:
    """Everything agrees that what was sent first landed behind."""
    third, fourth = run.sendings[2:4]
    third.place, fourth.place = fourth.place, third.place


def swap_in_the_store(run: Histories) -> None:
    """The store has another order than the acks said."""
    third, fourth = run.store.messages[2:4]
    run.store.messages[2:4] = [replace(third, seq=4), replace(fourth, seq=3)]


def invent_a_message(run: Histories) -> None:
    run.store.messages.append(Stored("id6", CHAT, 6, "eve", "m1"))


# --- Faults in answers and on screens ---------------------------------------------------------------------


def contradict_an_ack(run: Histories) -> None:
    run.sendings[0].acks.append(Ack("id1", 2, "noon"))


def contradict_a_time(run: Histories) -> None:
    run.sendings[0].acks.append(Ack("id1", 1, "a second past noon"))


def never_ack(run: Histories) -> None:
    run.sendings[0].acks.clear()


def refuse_for_good(run: Histories) -> None:
    run.sendings[0].acks.clear()
    run.sendings[0].refusal = "not_found"


def refuse_a_list(run: Histories) -> None:
    run.refusals.append("list_messages of ada was refused")


def put_aside(run: Histories) -> None:
    run.dead_letters = 1


def miss_a_push(run: Histories) -> None:
    """The newest message never reached one client, and no later one shows that it is missing."""
    del run.screens[0].views[CHAT].messages[5]


def show_another_message(run: Histories) -> None:
    run.screens[0].views[CHAT].messages[3].add("id33")


# --- Faults in counts -------------------------------------------------------------------------------------


def miscount_an_inbox(run: Histories) -> None:
    run.store.inboxes["ada", CHAT] = 2


def leave_an_inbox_behind(run: Histories) -> None:
    del run.store.inboxes["ada", CHAT]


def miscount_on_a_screen(run: Histories) -> None:
    run.screens[1].views[CHAT].unread = 1


def miscount_an_answer(run: Histories) -> None:
    run.counts[0] = Counts("ada", {CHAT: 0}, 1)


def miscount_a_total(run: Histories) -> None:
    run.counts[0] = Counts("ada", {CHAT: 1}, 2)


def move_a_watermark_back(run: Histories) -> None:
    run.marks.append((CHAT, "ada", 5))


def leave_a_watermark_on_a_screen_behind(run: Histories) -> None:
    run.screens[1].views[CHAT].read["ada"] = 3


def leave_the_header_behind(run: Histories) -> None:
    run.store.headers[CHAT] = Header(CHAT, 4, "id4", {"ada": 4, "bob": 4})


def forget_that_a_sender_has_read(run: Histories) -> None:
    run.store.headers[CHAT] = Header(CHAT, 5, "id5", {"ada": 4, "bob": 2})


@pytest.mark.parametrize(
    ("seed", "kind"),
    [
        (drop_from_the_end, LOST),
        (drop_from_the_middle, LOST),
        (drop_from_the_middle, GAPS),
        (store_twice, DUPLICATED),
        (give_a_seq_twice, DUPLICATED),
        (give_a_seq_twice, WRONG_UNREAD),
        (swap_one_senders_messages, OUT_OF_ORDER),
        (swap_in_the_store, DUPLICATED),
        (invent_a_message, REFUSED),
        (contradict_an_ack, DUPLICATED),
        (contradict_a_time, DUPLICATED),
        (never_ack, REFUSED),
        (refuse_for_good, REFUSED),
        (refuse_a_list, REFUSED),
        (put_aside, REFUSED),
        (miss_a_push, LOST),
        (show_another_message, DUPLICATED),
        (miscount_an_inbox, WRONG_UNREAD),
        (leave_an_inbox_behind, WRONG_UNREAD),
        (miscount_on_a_screen, WRONG_UNREAD),
        (miscount_an_answer, WRONG_UNREAD),
        (miscount_a_total, WRONG_UNREAD),
        (move_a_watermark_back, WRONG_UNREAD),
        (leave_a_watermark_on_a_screen_behind, WRONG_UNREAD),
        (leave_the_header_behind, WRONG_UNREAD),
        (forget_that_a_sender_has_read, WRONG_UNREAD),
    ],
)
def test_a_seeded_fault_is_reported_by_its_name(seed: Callable[[Histories], None], kind: str) -> None:
    run = good()
    seed(run)
    assert check(run).count(kind) > 0


def test_a_retry_may_land_later() -> None:
    run = good()
    swap_one_senders_messages(run)
    run.sendings[2].tries = 2
    assert check(run).complaints == []


def test_two_connections_of_one_person_are_in_no_order() -> None:
    run = good()
    swap_one_senders_messages(run)
    run.sendings[3].connection = 2
    assert check(run).complaints == []


def test_every_kind_is_a_column_of_its_own() -> None:
    assert len(set(KINDS)) == len(KINDS)
