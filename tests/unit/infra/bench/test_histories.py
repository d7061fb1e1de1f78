"""What a client shows, as docs/protocol.md has it put together."""

from infra.bench.histories import ClientView, ConversationView, Header, Histories, Stored, StoredMessage


def message(seq: int, message_id: str | None = None) -> dict[str, object]:
    return {"id": message_id or f"id{seq}", "seq": seq, "sender_id": "ada"}


def test_a_message_that_comes_twice_is_shown_once() -> None:
    view = ConversationView()
    for seq in (1, 3, 1):
        view.apply_message(message(seq))
    assert view.messages == {1: {"id1"}, 3: {"id3"}}
    assert (view.last_seq, view.contiguous) == (3, 1)


def test_two_messages_with_one_seq_are_both_kept_for_the_checker() -> None:
    view = ConversationView()
    view.apply_message(message(1))
    view.apply_message(message(1, "another"))
    assert view.messages[1] == {"id1", "another"}


def test_a_watermark_never_moves_back_and_a_message_moves_its_senders() -> None:
    view = ConversationView()
    view.apply_read("bob", 5)
    view.apply_read("bob", 4)
    view.apply_message(message(6))
    assert view.read == {"bob": 5, "ada": 6}


def test_an_older_count_changes_nothing() -> None:
    view = ConversationView()
    view.apply_count({"last_read_seq": 4, "unread_count": 0})
    view.apply_count({"last_read_seq": 1, "unread_count": 3})
    assert view.unread == 0
    view.apply_count({"last_read_seq": 4, "unread_count": 2})
    assert view.unread == 2


def test_a_conversation_brings_watermarks_and_ones_own_count() -> None:
    view = ConversationView()
    people = [{"user": {"id": "ada"}, "last_read_seq": 7}, {"user": {"id": "bob"}, "last_read_seq": 3}]
    conversation = {"last_seq": 7, "participants": people, "last_read_seq": 5, "unread_count": 2}
    view.apply_conversation(conversation, "cy")
    assert (view.last_seq, view.read, view.unread) == (7, {"ada": 7, "bob": 3, "cy": 5}, 2)


def test_messages_are_listed_by_conversation_in_order_even_without_a_header() -> None:
    messages = [StoredMessage(f"id{seq}", "chat", seq, "ada", f"m{seq}") for seq in (2, 1)]
    run = Histories([], Stored(messages, {"empty": Header("empty")}))
    found = {header.conversation_id: [each.seq for each in messages] for header, messages in run.by_conversation()}
    assert found == {"empty": [], "chat": [1, 2]}


def test_a_conversation_brings_the_presence_of_its_participants() -> None:
    view = ClientView("ada")
    view.apply_participants({"participants": [{"user": {"id": "bob"}, "online": True, "last_seen_at": None}]})
    assert view.online == {"bob": True}
