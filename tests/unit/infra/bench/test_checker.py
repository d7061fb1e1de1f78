"""The checker of histories finds what it is there to find: each test seeds one fault into a good run."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from infra.bench.checker import (
    DUPLICATED,
    GAPS,
    KINDS,
    LOST,
    OUT_OF_ORDER,
    REFUSED,
    UNDELIVERED,
    UNEXPECTED,
    WRONG_PRESENCE,
    WRONG_UNREAD,
    check,
)
from infra.bench.histories import (
    Ack,
    ClientView,
    Counts,
    Header,
    Histories,
    Presence,
    SentMessage,
    Stored,
    StoredMessage,
)

CHAT = "chat"
SENDERS = ["ada", "bob", "ada", "ada", "bob"]


def good() -> Histories:
    """Ada and Bob sent five messages in turn; Bob sent the last one, Ada has read all but that."""
    messages = [StoredMessage(f"id{seq}", CHAT, seq, sender, f"m{seq}") for seq, sender in enumerate(SENDERS, start=1)]
    sent = [
        SentMessage(
            CHAT,
            each.sender_id,
            each.client_message_id,
            due_at=1.0,
            acked_at=1.1,
            delivered_at=1.2,
            tries=1,
            connection=1,
            place=each.seq,
            acks=[Ack(each.id, each.seq, "noon")],
        )
        for each in messages
    ]
    read = {"ada": 4, "bob": 5}
    views = [ClientView("ada"), ClientView("bob")]
    for client in views:
        view = client.conversations[CHAT]
        for each in messages:
            view.apply_message({"id": each.id, "seq": each.seq, "sender_id": each.sender_id})
        view.apply_count({"last_read_seq": read[client.user_id], "unread_count": 5 - read[client.user_id]})
    store = Stored(messages, {CHAT: Header(CHAT, 5, "id5", read)}, {("ada", CHAT): 1})
    counts = [Counts("ada", {CHAT: 1}, 1), Counts("bob", {CHAT: 0}, 0)]
    presences = [
        Presence("ada", connected=True, online=True, registered=True, answered=True, shown={"bob": True}),
        Presence("bob", connected=False, online=False, registered=False, answered=False, shown={"ada": False}),
        Presence("eve", connected=True, online=True, registered=True),
    ]
    return Histories(sent, store, views, counts, [(CHAT, "ada", 4)], presences=presences)


def good_load() -> Histories:
    """The same as a load run sees it: what was sent, what is stored, and no watermarks."""
    run = good()
    return Histories(run.sent, Stored(run.stored.messages, {CHAT: Header(CHAT, 5, "id5")}))


def test_messages_from_before_the_run_are_no_gap() -> None:
    run = good_load()
    run.sent[:2], run.stored.messages[:2] = [], []
    assert {kind for kind, _ in check(run).complaints} == {GAPS}
    run.stored.headers[CHAT] = replace(run.stored.headers[CHAT], base_seq=2)
    assert check(run).complaints == []


def test_a_good_run_has_no_complaints() -> None:
    verdict = check(good(), expect_pushes=True)
    assert (verdict.sent, verdict.acked, verdict.stored, verdict.delivered, verdict.retried) == (5, 5, 5, 5, 0)
    assert verdict.complaints == []


def test_a_good_run_without_views_counts_and_watermarks_has_no_complaints() -> None:
    assert check(good_load(), expect_pushes=True).complaints == []


# --- Faults in the store ----------------------------------------------------------------------------------


def drop_from_the_end(run: Histories) -> None:
    """The newest message is missing, and its header does not show it: there is no gap."""
    run.stored.messages.pop()
    run.stored.headers[CHAT] = Header(CHAT, 4, "id4", run.stored.headers[CHAT].read and {"ada": 4, "bob": 4})


def drop_from_the_middle(run: Histories) -> None:
    del run.stored.messages[2]


def drop_from_the_start(run: Histories) -> None:
    del run.stored.messages[0]


def store_twice(run: Histories) -> None:
    """The same message has two ids and two seqs."""
    run.stored.messages.append(replace(run.stored.messages[4], id="id6", seq=6))


def give_a_seq_twice(run: Histories) -> None:
    run.stored.messages[4] = replace(run.stored.messages[4], seq=4)


def swap_one_senders_messages(run: Histories) -> None:
    """Acks and store agree that what was sent first has the higher seq."""
    third, fourth = run.sent[2:4]
    third.place, fourth.place = fourth.place, third.place


def swap_in_the_store(run: Histories) -> None:
    """The store has another order than the acks."""
    third, fourth = run.stored.messages[2:4]
    run.stored.messages[2:4] = [replace(third, seq=4), replace(fourth, seq=3)]


def store_what_nobody_sent(run: Histories) -> None:
    run.stored.messages.append(StoredMessage("id6", CHAT, 6, "eve", "m1"))


def leave_the_header_behind(run: Histories) -> None:
    run.stored.headers[CHAT] = Header(CHAT, 4, "id4", run.stored.headers[CHAT].read and {"ada": 4, "bob": 4})


def lose_the_header(run: Histories) -> None:
    del run.stored.headers[CHAT]


# --- Faults in answers ------------------------------------------------------------------------------------


def contradict_an_ack(run: Histories) -> None:
    run.sent[0].acks.append(Ack("id1", 2, "noon"))


def contradict_a_time(run: Histories) -> None:
    run.sent[0].acks.append(Ack("id1", 1, "a second past noon"))


def contradict_the_store(run: Histories) -> None:
    run.sent[4].acks = [Ack("id5", 7, "noon")]


def leave_without_an_ack(run: Histories) -> None:
    run.sent[0].acks.clear()


def refuse_for_good(run: Histories) -> None:
    run.sent[0].acks.clear()
    run.sent[0].refusal = "not_found"


def refuse_a_list(run: Histories) -> None:
    run.refusals.append("list_messages of ada was refused")


def dead_letter(run: Histories) -> None:
    run.dead_letters = 1


def miss_the_push(run: Histories) -> None:
    run.sent[2].delivered_at = 0.0


# --- Faults in what clients show --------------------------------------------------------------------------


def miss_a_push(run: Histories) -> None:
    """One client does not show the newest message, and no later one shows that it is missing."""
    del run.views[0].conversations[CHAT].messages[5]


def show_another_message(run: Histories) -> None:
    run.views[0].conversations[CHAT].messages[3] = {"id33"}


def show_two_messages(run: Histories) -> None:
    run.views[0].conversations[CHAT].messages[3].add("id33")


def show_a_wrong_count(run: Histories) -> None:
    run.views[1].conversations[CHAT].unread = 1


def show_an_old_watermark(run: Histories) -> None:
    run.views[1].conversations[CHAT].read["ada"] = 3


# --- Faults in counts -------------------------------------------------------------------------------------


def miscount_an_inbox(run: Histories) -> None:
    run.stored.inboxes["ada", CHAT] = 2


def lose_an_inbox(run: Histories) -> None:
    del run.stored.inboxes["ada", CHAT]


def answer_a_wrong_count(run: Histories) -> None:
    run.counts[0] = Counts("ada", {CHAT: 0}, 1)


def answer_a_wrong_total(run: Histories) -> None:
    run.counts[0] = Counts("ada", {CHAT: 1}, 2)


def move_a_watermark_back(run: Histories) -> None:
    run.watermarks.append((CHAT, "ada", 5))


def read_beyond_the_newest(run: Histories) -> None:
    run.stored.headers[CHAT].read["bob"] = 6


def forget_that_a_sender_has_read(run: Histories) -> None:
    run.stored.headers[CHAT].read["bob"] = 2


# --- Faults in presence -----------------------------------------------------------------------------------


def keep_online_who_left(run: Histories) -> None:
    run.presences[1] = replace(run.presences[1], online=True)


def show_offline_who_is_connected(run: Histories) -> None:
    run.presences[0] = replace(run.presences[0], online=False)


def close_a_session_too_many(run: Histories) -> None:
    """A connected user is online, and no push finds the way to them."""
    run.presences[2] = replace(run.presences[2], registered=False)


def keep_a_session(run: Histories) -> None:
    run.presences[1] = replace(run.presences[1], registered=True)


def answer_a_wrong_presence(run: Histories) -> None:
    run.presences[1] = replace(run.presences[1], answered=True)


def show_a_wrong_presence(run: Histories) -> None:
    run.presences[0] = replace(run.presences[0], shown={"bob": False})


def correct_a_presence(run: Histories) -> None:
    run.presence_corrections = 1


@pytest.mark.parametrize(
    ("seed", "kinds"),
    [
        (drop_from_the_end, {LOST, DUPLICATED, WRONG_UNREAD}),
        (drop_from_the_middle, {LOST, DUPLICATED, GAPS}),
        (store_twice, {DUPLICATED, LOST, WRONG_UNREAD}),
        (give_a_seq_twice, {DUPLICATED, WRONG_UNREAD}),
        (swap_one_senders_messages, {OUT_OF_ORDER}),
        (swap_in_the_store, {DUPLICATED}),
        (store_what_nobody_sent, {UNEXPECTED, LOST, WRONG_UNREAD}),
        (leave_the_header_behind, {WRONG_UNREAD}),
        (contradict_an_ack, {DUPLICATED}),
        (contradict_a_time, {DUPLICATED}),
        (leave_without_an_ack, {REFUSED}),
        (refuse_for_good, {REFUSED}),
        (refuse_a_list, {REFUSED}),
        (dead_letter, {REFUSED}),
        (miss_a_push, {LOST}),
        (show_another_message, {DUPLICATED}),
        (show_two_messages, {DUPLICATED}),
        (show_a_wrong_count, {WRONG_UNREAD}),
        (show_an_old_watermark, {WRONG_UNREAD}),
        (miscount_an_inbox, {WRONG_UNREAD}),
        (lose_an_inbox, {WRONG_UNREAD}),
        (answer_a_wrong_count, {WRONG_UNREAD}),
        (answer_a_wrong_total, {WRONG_UNREAD}),
        (move_a_watermark_back, {WRONG_UNREAD}),
        (read_beyond_the_newest, {WRONG_UNREAD}),
        (forget_that_a_sender_has_read, {WRONG_UNREAD}),
        (keep_online_who_left, {WRONG_PRESENCE}),
        (show_offline_who_is_connected, {WRONG_PRESENCE}),
        (close_a_session_too_many, {WRONG_PRESENCE}),
        (keep_a_session, {WRONG_PRESENCE}),
        (answer_a_wrong_presence, {WRONG_PRESENCE}),
        (show_a_wrong_presence, {WRONG_PRESENCE}),
        (correct_a_presence, {WRONG_PRESENCE}),
    ],
)
def test_a_seeded_fault_is_named(seed: Callable[[Histories], None], kinds: set[str]) -> None:
    run = good()
    seed(run)
    assert {kind for kind, _ in check(run).complaints} == kinds


@pytest.mark.parametrize(
    ("seed", "complaints"),
    [
        (drop_from_the_end, {LOST: 1}),
        (drop_from_the_middle, {LOST: 1, GAPS: 1}),
        (drop_from_the_start, {LOST: 1, GAPS: 1}),
        (store_twice, {DUPLICATED: 2, WRONG_UNREAD: 1}),
        (give_a_seq_twice, {DUPLICATED: 2, WRONG_UNREAD: 1}),
        (swap_one_senders_messages, {OUT_OF_ORDER: 1}),
        (swap_in_the_store, {DUPLICATED: 2}),
        (store_what_nobody_sent, {UNEXPECTED: 1, WRONG_UNREAD: 1}),
        (leave_the_header_behind, {WRONG_UNREAD: 1}),
        (lose_the_header, {WRONG_UNREAD: 1}),
        (contradict_an_ack, {DUPLICATED: 1}),
        (contradict_the_store, {DUPLICATED: 1}),
        (leave_without_an_ack, {}),
        (refuse_for_good, {REFUSED: 1}),
        (miss_the_push, {UNDELIVERED: 1}),
    ],
)
def test_a_seeded_fault_is_counted_in_a_load_run(seed: Callable[[Histories], None], complaints: dict[str, int]) -> None:
    run = good_load()
    seed(run)
    verdict = check(run, expect_acks=False, expect_pushes=True)
    assert Counter(kind for kind, _ in verdict.complaints) == complaints
    assert {kind: verdict.count(kind) for kind in KINDS} == {**dict.fromkeys(KINDS, 0), **complaints}


# --- What is no fault -------------------------------------------------------------------------------------


def test_a_message_without_an_ack_that_is_not_stored_is_not_lost() -> None:
    run = good_load()
    drop_from_the_end(run)
    run.sent[4].acks.clear()
    assert check(run, expect_acks=False).complaints == []


def test_a_missing_push_is_no_complaint_where_pushes_are_not_expected() -> None:
    run = good_load()
    miss_the_push(run)
    assert check(run).complaints == []


def test_a_retry_may_land_later() -> None:
    run = good()
    swap_one_senders_messages(run)
    run.sent[2].tries = 2
    verdict = check(run)
    assert (verdict.complaints, verdict.retried) == ([], 1)


def test_two_connections_of_one_user_have_no_order() -> None:
    run = good()
    swap_one_senders_messages(run)
    run.sent[3].connection = 2
    assert check(run).complaints == []


def test_two_senders_have_no_order() -> None:
    run = good()
    run.sent[0].place, run.sent[1].place = 2, 1
    assert check(run).complaints == []


def test_the_same_ack_twice_is_no_contradiction() -> None:
    run = good()
    run.sent[0].acks.append(run.sent[0].acks[0])
    assert check(run).complaints == []


def test_kinds_have_different_names() -> None:
    assert len(set(KINDS)) == len(KINDS)
