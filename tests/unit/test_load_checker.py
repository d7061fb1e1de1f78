"""The checker of load runs finds each fault that is put into a healthy history, and only that one."""

from dataclasses import replace

import pytest

from infra.bench.load.checker import Faults, Sending, Stored, check


def healthy() -> tuple[list[Sending], list[Stored], dict[str, int]]:
    """Two conversations, two senders each, five messages a sender, all acked and delivered."""
    sendings, stored, headers = [], [], {}
    for conversation in ("c1", "c2"):
        for seq in range(1, 11):
            sender, number = f"{conversation}-{seq % 2}", f"{conversation}-{seq}"
            sendings.append(
                Sending(
                    conversation,
                    sender,
                    number,
                    first_sent_at=float(seq),
                    sent_at=float(seq),
                    acked_at=seq + 0.1,
                    delivered_at=seq + 0.2,
                    seq=seq,
                    tries=1,
                )
            )
            stored.append(Stored(conversation, sender, number, seq))
        headers[conversation] = 10
    return sendings, stored, headers


def test_a_healthy_history_has_no_faults() -> None:
    verdict = check(*healthy())
    assert verdict.faults == Faults()
    assert verdict.faults.total == 0
    assert (verdict.sent, verdict.acked, verdict.stored, verdict.delivered) == (20, 20, 20, 20)


def test_an_acked_message_that_history_lacks_is_lost() -> None:
    sendings, stored, headers = healthy()
    del stored[-1]
    headers["c2"] = 9
    assert check(sendings, stored, headers).faults == Faults(lost=1)


def test_an_unacked_message_that_history_lacks_is_not_lost() -> None:
    sendings, stored, headers = healthy()
    del stored[-1]
    headers["c2"] = 9
    sendings[-1].acked_at = 0.0
    assert check(sendings, stored, headers).faults == Faults()


def test_an_unacked_message_that_history_has_is_no_fault() -> None:
    sendings, stored, headers = healthy()
    sendings[-1].acked_at = sendings[-1].delivered_at = 0.0
    verdict = check(sendings, stored, headers)
    assert verdict.faults == Faults()
    assert (verdict.acked, verdict.stored) == (19, 20)


def test_a_message_stored_twice_is_duplicated() -> None:
    sendings, stored, headers = healthy()
    stored.append(replace(stored[-1], seq=11))
    headers["c2"] = 11
    faults = check(sendings, stored, headers).faults
    assert faults.duplicated == 1
    assert faults.lost == faults.gaps == 0


def test_a_place_given_twice_is_duplicated_and_leaves_a_gap() -> None:
    sendings, stored, headers = healthy()
    stored[3] = replace(stored[3], seq=3)
    faults = check(sendings, stored, headers).faults
    assert (faults.duplicated, faults.gaps, faults.contradicted) == (1, 1, 1)


@pytest.mark.parametrize("missing", [0, 4])
def test_a_missing_place_is_a_gap(missing: int) -> None:
    sendings, stored, headers = healthy()
    del stored[missing]
    sendings[missing].acked_at = 0.0
    assert check(sendings, stored, headers).faults == Faults(gaps=1)


def test_messages_of_one_sender_that_changed_places_are_misordered() -> None:
    sendings, stored, headers = healthy()
    stored[2], stored[4] = replace(stored[2], seq=5), replace(stored[4], seq=3)
    sendings[2].seq, sendings[4].seq = 5, 3
    assert check(sendings, stored, headers).faults == Faults(misordered=1)


def test_a_retried_message_may_land_later() -> None:
    sendings, stored, headers = healthy()
    stored[2], stored[4] = replace(stored[2], seq=5), replace(stored[4], seq=3)
    sendings[2].seq, sendings[4].seq = 5, 3
    sendings[2].tries = 2
    verdict = check(sendings, stored, headers)
    assert verdict.faults == Faults()
    assert verdict.retried == 1


def test_two_senders_in_one_conversation_may_land_in_any_order() -> None:
    sendings, stored, headers = healthy()
    stored[2], stored[3] = replace(stored[2], seq=4), replace(stored[3], seq=3)
    sendings[2].seq, sendings[3].seq = 4, 3
    assert check(sendings, stored, headers).faults == Faults()


def test_an_ack_that_names_another_place_is_contradicted() -> None:
    sendings, stored, headers = healthy()
    sendings[5].seq = 7
    assert check(sendings, stored, headers).faults == Faults(contradicted=1)


def test_a_message_that_nobody_sent_is_foreign() -> None:
    sendings, stored, headers = healthy()
    stored.append(Stored("c1", "c1-0", "from elsewhere", 11))
    headers["c1"] = 11
    assert check(sendings, stored, headers).faults == Faults(foreign=1)


def test_a_header_behind_its_messages_is_stale() -> None:
    sendings, stored, headers = healthy()
    headers["c1"] = 9
    assert check(sendings, stored, headers).faults == Faults(stale=1)


def test_a_missing_push_counts_only_when_all_parts_stayed_up() -> None:
    sendings, stored, headers = healthy()
    sendings[0].delivered_at = 0.0
    assert check(sendings, stored, headers).faults == Faults(undelivered=1)
    assert check(sendings, stored, headers, all_parts_stayed_up=False).faults == Faults()


def test_a_refusal_is_a_fault() -> None:
    sendings, stored, headers = healthy()
    del stored[-1]
    headers["c2"] = 9
    sendings[-1].acked_at = 0.0
    sendings[-1].error = "not_found"
    assert check(sendings, stored, headers).faults == Faults(refused=1)
