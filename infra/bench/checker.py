"""Judges a run by its histories. No I/O; every complaint is a sentence.

The kinds of complaint, and the promises of docs/protocol.md that they break:

    lost            acked but not stored; or stored, but missing in a participant's client                      1, 5
    duplicated      stored twice, one seq given twice, an ack that another ack or the store contradicts         2
    out of order    acked on the first try, with a lower seq than a message that its sender sent before         4
    gaps            a seq from the first of the run to the highest that no message has                          3
    wrong unread    a header, a watermark, a count or a total that does not follow from the messages            6
    refused         answered with an error that rules out a retry, never answered, or dead-lettered             1
    unexpected      stored, but no client of the run sent it                                                    2
    wrong presence  a user who counts as online and is not connected, or the other way round                    9
    undelivered     acked, but not pushed in time; only judged where the run notes pushes                       5
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from infra.bench.histories import ClientView, Header, Histories, MessageKey, StoredMessage

LOST, DUPLICATED, OUT_OF_ORDER, GAPS, WRONG_UNREAD, REFUSED, UNEXPECTED, WRONG_PRESENCE, UNDELIVERED = KINDS = (
    "lost",
    "duplicated",
    "out of order",
    "gaps",
    "wrong unread",
    "refused",
    "unexpected",
    "wrong presence",
    "undelivered",
)

#: The kinds that a load run is judged by: its clients do not come and go.
LOAD_KINDS = tuple(kind for kind in KINDS if kind != WRONG_PRESENCE)

#: A kind, and the sentence that says what is wrong.
Complaint = tuple[str, str]


@dataclass(frozen=True)
class Verdict:
    """What a run did, and what was wrong with it."""

    sent: int
    acked: int
    retried: int
    stored: int
    #: Messages that were pushed to all their recipients, where the run notes that.
    delivered: int = 0
    complaints: list[Complaint] = field(default_factory=list)

    def count(self, kind: str) -> int:
        """How many complaints of a kind there are."""
        return sum(found == kind for found, _ in self.complaints)


def check(histories: Histories, *, expect_acks: bool = True, expect_pushes: bool = False) -> Verdict:
    """Compare the histories of a run.

    With `expect_acks`, a message that was never answered is refused; with `expect_pushes`, an acked message that was
    not pushed is undelivered.
    """
    return Verdict(
        sent=len(histories.sent),
        acked=sum(bool(sent.acks) for sent in histories.sent),
        retried=sum(sent.tries > 1 for sent in histories.sent),
        stored=len(histories.stored.messages),
        delivered=sum(bool(sent.delivered_at) for sent in histories.sent),
        complaints=[
            *_acks(histories),
            *_log(histories),
            *_order(histories),
            *_views(histories),
            *_projections(histories),
            *_counts(histories),
            *_presences(histories),
            *_refusals(histories),
            *(_unanswered(histories) if expect_acks else ()),
            *(_pushes(histories) if expect_pushes else ()),
        ],
    )


# --- Acks and the stored messages -------------------------------------------------------------------------


def _acks(histories: Histories) -> Iterator[Complaint]:
    by_key = {message.key: message for message in histories.stored.messages}
    for sent in histories.sent:
        if not sent.acks:
            continue
        first, stored = sent.acks[0], by_key.get(sent.key)
        if stored is None:
            yield LOST, f"{_name(sent.key)} was acked as {first.seq} and is not stored"
        elif (first.id, first.seq) != (stored.id, stored.seq):
            yield DUPLICATED, f"{_name(sent.key)} was acked as {first.seq} and is stored as {stored.seq}"
        for other in sent.acks[1:]:
            if other != first:
                yield DUPLICATED, f"{_name(sent.key)} was acked as {first} and as {other}"


def _log(histories: Histories) -> Iterator[Complaint]:
    known = {sent.key for sent in histories.sent}
    for key, count in Counter(message.key for message in histories.stored.messages).items():
        if count > 1:
            yield DUPLICATED, f"{_name(key)} is stored {count} times"
        if key not in known:
            yield UNEXPECTED, f"{_name(key)} is stored, and no client sent it"
    for header, messages in histories.by_conversation():
        seqs = Counter(message.seq for message in messages)
        for seq, count in seqs.items():
            if count > 1:
                yield DUPLICATED, f"{count} messages of {header.conversation_id} have seq {seq}"
        highest = max(seqs, default=0)
        for seq in range(header.base_seq + 1, highest + 1):
            if seq not in seqs:
                yield GAPS, f"{header.conversation_id} has no message {seq}, and its highest seq is {highest}"


def _order(histories: Histories) -> Iterator[Complaint]:
    """Messages of one connection in one conversation have ascending seqs, as far as their first try was acked."""
    lanes: defaultdict[tuple[str, str, int], list[tuple[int, int]]] = defaultdict(list)
    for sent in histories.sent:
        if sent.tries == 1 and sent.acks:
            lane = sent.sender_id, sent.conversation_id, sent.connection
            lanes[lane].append((sent.place, sent.acks[0].seq))
    for (sender_id, conversation_id, _), placed in lanes.items():
        highest = 0
        for _, seq in sorted(placed):
            if seq < highest:
                yield OUT_OF_ORDER, f"{sender_id} sent {seq} of {conversation_id} after {highest}"
            highest = max(seq, highest)


# --- What clients show ------------------------------------------------------------------------------------


def _views(histories: Histories) -> Iterator[Complaint]:
    conversations = list(histories.by_conversation())
    for view in histories.views:
        for header, messages in conversations:
            if view.user_id in header.read:
                yield from _view(view, header, messages)


def _view(client: ClientView, header: Header, messages: list[StoredMessage]) -> Iterator[Complaint]:
    where = f"the client of {client.user_id}, in {header.conversation_id},"
    view = client.conversations[header.conversation_id]
    ids = {message.seq: message.id for message in messages}
    for seq, shown in sorted(view.messages.items()):
        if len(shown) > 1:
            yield DUPLICATED, f"{where} shows {len(shown)} messages with seq {seq}"
        elif ids.get(seq) not in shown:
            yield DUPLICATED, f"{where} shows another message {seq} than the stored one"
    for seq in ids:
        if seq not in view.messages:
            yield LOST, f"{where} does not show message {seq} of {len(ids)}"
    unread = header.last_seq - header.read[client.user_id]
    if view.unread != unread:
        yield WRONG_UNREAD, f"{where} shows {view.unread} unread instead of {unread}"
    for user_id, seq in header.read.items():
        if (read := view.read.get(user_id, 0)) != seq:
            yield WRONG_UNREAD, f"{where} shows that {user_id} has read {read} instead of {seq}"


# --- Headers, watermarks and counts -----------------------------------------------------------------------


def _projections(histories: Histories) -> Iterator[Complaint]:
    for header, messages in histories.by_conversation():
        newest = messages[-1] if messages else None
        if newest is not None and (header.last_seq, header.last_id) != (newest.seq, newest.id):
            yield WRONG_UNREAD, f"the header of {header.conversation_id} has {header.last_seq}, not {newest.seq}"
        yield from _watermarks(histories, header, messages)
    for conversation_id, user_id, seq in histories.watermarks:
        stored = histories.stored.headers[conversation_id].read[user_id]
        if stored < seq:
            yield WRONG_UNREAD, f"{user_id} got an ack to have read {seq} of {conversation_id}; stored is {stored}"


def _watermarks(histories: Histories, header: Header, messages: list[StoredMessage]) -> Iterator[Complaint]:
    own = {message.sender_id: message.seq for message in messages}
    for user_id, read in header.read.items():
        if read > header.last_seq:
            yield WRONG_UNREAD, f"{user_id} has read {read} of {header.last_seq} in {header.conversation_id}"
        if read < own.get(user_id, 0):
            yield WRONG_UNREAD, f"{user_id} has read {read} of {header.conversation_id} and sent {own[user_id]}"
        counted = histories.stored.inboxes.get((user_id, header.conversation_id), 0)
        if counted != header.last_seq - read:
            right = header.last_seq - read
            yield WRONG_UNREAD, f"the inbox of {user_id} has {counted} of {header.conversation_id}, not {right}"


def _counts(histories: Histories) -> Iterator[Complaint]:
    for counts in histories.counts:
        total = 0
        for header in histories.stored.headers.values():
            if counts.user_id not in header.read:
                continue
            unread = header.last_seq - header.read[counts.user_id]
            total += unread
            answered = counts.unread.get(header.conversation_id)
            if answered != unread:
                where = f"{counts.user_id} in {header.conversation_id}"
                yield WRONG_UNREAD, f"the server counts {answered} unread for {where}, not {unread}"
        if counts.total_unread != total:
            who = counts.user_id
            yield WRONG_UNREAD, f"the server counts {counts.total_unread} unread in all for {who}, not {total}"


# --- Presence ---------------------------------------------------------------------------------------------


def _presences(histories: Histories) -> Iterator[Complaint]:
    for presence in histories.presences:
        said = {
            "the store says that the user is online": presence.online,
            "the store has a valid session": presence.registered,
            **({} if presence.answered is None else {"get_presence says that the user is online": presence.answered}),
            **{f"the client of {viewer} shows the user online": shown for viewer, shown in presence.shown.items()},
        }
        connected = "connected" if presence.connected else "not connected"
        for what, value in said.items():
            if value != presence.connected:
                yield WRONG_PRESENCE, f"{presence.user_id} is {connected}; {what}: {value}"
    if histories.presence_corrections:
        users = histories.presence_corrections
        yield WRONG_PRESENCE, f"{users} users were online without a session until a presence worker corrected that"


# --- Answers and pushes -----------------------------------------------------------------------------------


def _refusals(histories: Histories) -> Iterator[Complaint]:
    for sent in histories.sent:
        if sent.refusal:
            yield REFUSED, f"{_name(sent.key)} was refused as {sent.refusal}"
    for refusal in histories.refusals:
        yield REFUSED, refusal
    if histories.dead_letters:
        yield REFUSED, f"{histories.dead_letters} items are in the dead-letter queues"


def _unanswered(histories: Histories) -> Iterator[Complaint]:
    for sent in histories.sent:
        if not sent.acks and not sent.refusal:
            yield REFUSED, f"{_name(sent.key)} was never acked in {sent.tries} tries: {sent.failures[-5:]}"


def _pushes(histories: Histories) -> Iterator[Complaint]:
    for sent in histories.sent:
        if sent.acks and not sent.delivered_at:
            yield UNDELIVERED, f"{_name(sent.key)} was acked and not pushed to every recipient in time"


def _name(key: MessageKey) -> str:
    conversation_id, sender_id, client_message_id = key
    return f"message {client_message_id} of {sender_id} in {conversation_id}"
