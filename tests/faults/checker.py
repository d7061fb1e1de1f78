"""Judges a run by its four histories. No I/O; every complaint is a sentence.

Columns, and the promise of docs/protocol.md that each one breaks:

    lost          acked but not stored, or stored but missing on a participant's screen              1, 5
    duplicated    a message stored twice, a seq given twice, an ack that another ack contradicts     2
    out of order  acked on the first try, with a lower seq than one its sender had sent before it    4
    gaps          a seq from 1 to the highest that no message has                                    3
    wrong unread  a count, a total or a watermark that is not what header and messages say           6
    refused       answered for good with an error, never answered, put aside as dead, or not ours    all
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.faults.histories import Header, Histories, Screen, Stored

LOST, DUPLICATED, OUT_OF_ORDER, GAPS, WRONG_UNREAD, REFUSED = KINDS = (
    "lost",
    "duplicated",
    "out of order",
    "gaps",
    "wrong unread",
    "refused",
)

#: A kind, and the sentence that says what is wrong.
Complaint = tuple[str, str]


@dataclass(frozen=True)
class Verdict:
    """What a run did, and what was wrong with it."""

    sent: int
    acked: int
    retried: int
    stored: int
    complaints: list[Complaint] = field(default_factory=list)

    def count(self, kind: str) -> int:
        """How many complaints of a kind there are; 0 is what a good run has."""
        return sum(found == kind for found, _ in self.complaints)


def check(histories: Histories) -> Verdict:
    """Hold the four histories against each other."""
    return Verdict(
        sent=len(histories.sendings),
        acked=sum(bool(sending.acks) for sending in histories.sendings),
        retried=sum(sending.tries > 1 for sending in histories.sendings),
        stored=len(histories.store.messages),
        complaints=[
            *_acks(histories),
            *_log(histories),
            *_order(histories),
            *_screens(histories),
            *_projections(histories),
            *_counts(histories),
            *_answers(histories),
        ],
    )


# --- What was acked, against the log ----------------------------------------------------------------------


def _acks(histories: Histories) -> Iterator[Complaint]:
    by_key = {message.key: message for message in histories.store.messages}
    for sending in histories.sendings:
        if not sending.acks:
            continue
        stored = by_key.get(sending.key)
        if stored is None:
            yield LOST, f"{sending.key} was acked as {sending.acks[0].seq} and is not stored"
        elif (sending.acks[0].id, sending.acks[0].seq) != (stored.id, stored.seq):
            yield DUPLICATED, f"{sending.key} was acked as {sending.acks[0].seq} and is stored as {stored.seq}"
        for other in sending.acks[1:]:
            if other != sending.acks[0]:
                yield DUPLICATED, f"{sending.key} was acked as {sending.acks[0]} and as {other}"


def _log(histories: Histories) -> Iterator[Complaint]:
    for key, count in Counter(message.key for message in histories.store.messages).items():
        if count > 1:
            yield DUPLICATED, f"{key} is stored {count} times"
    for header, messages in histories.by_conversation():
        seqs = Counter(message.seq for message in messages)
        for seq, count in seqs.items():
            if count > 1:
                yield DUPLICATED, f"{count} messages of {header.conversation_id} have seq {seq}"
        for seq in range(1, max(seqs, default=0) + 1):
            if seq not in seqs:
                yield GAPS, f"{header.conversation_id} has no message {seq}, but {max(seqs)}"


def _order(histories: Histories) -> Iterator[Complaint]:
    """What one socket sent into one conversation, and what was acked at the first try, must ascend."""
    lanes: defaultdict[tuple[str, str, int], list[tuple[int, int]]] = defaultdict(list)
    for sending in histories.sendings:
        if sending.tries == 1 and sending.acks:
            lane = sending.sender_id, sending.conversation_id, sending.connection
            lanes[lane].append((sending.place, sending.acks[0].seq))
    for (sender_id, conversation_id, _), sent in lanes.items():
        highest = 0
        for _, seq in sorted(sent):
            if seq < highest:
                yield OUT_OF_ORDER, f"{sender_id} sent {seq} of {conversation_id} after {highest}"
            highest = max(seq, highest)


# --- What clients have on their screens -------------------------------------------------------------------


def _screens(histories: Histories) -> Iterator[Complaint]:
    conversations = list(histories.by_conversation())
    for screen in histories.screens:
        for header, messages in conversations:
            if screen.user_id in header.read:
                yield from _screen(screen, header, messages)


def _screen(screen: Screen, header: Header, messages: list[Stored]) -> Iterator[Complaint]:
    where = f"{screen.user_id}'s screen of {header.conversation_id}"
    view = screen.views[header.conversation_id]
    ids = {message.seq: message.id for message in messages}
    for seq, shown in sorted(view.messages.items()):
        if len(shown) > 1:
            yield DUPLICATED, f"{where} has {len(shown)} messages {seq}"
        elif ids.get(seq) not in shown:
            yield DUPLICATED, f"{where} has a message {seq} that is not the stored one"
    for seq in ids:
        if seq not in view.messages:
            yield LOST, f"{where} has no message {seq} of {len(ids)}"
    unread = header.last_seq - header.read[screen.user_id]
    if view.unread != unread:
        yield WRONG_UNREAD, f"{where} shows {view.unread} unread instead of {unread}"
    for user_id, seq in header.read.items():
        if view.read.get(user_id, 0) != seq:
            yield WRONG_UNREAD, f"{where} shows that {user_id} read {view.read.get(user_id, 0)} instead of {seq}"


# --- Unread and watermarks --------------------------------------------------------------------------------


def _projections(histories: Histories) -> Iterator[Complaint]:
    for header, messages in histories.by_conversation():
        newest = messages[-1] if messages else None
        if newest is not None and (header.last_seq, header.last_id) != (newest.seq, newest.id):
            yield WRONG_UNREAD, f"{header.conversation_id} shows {header.last_seq} as its newest, not {newest.seq}"
        own: dict[str, int] = {message.sender_id: message.seq for message in messages}
        for user_id, read in header.read.items():
            if read > header.last_seq:
                yield WRONG_UNREAD, f"{user_id} read {read} of {header.last_seq} in {header.conversation_id}"
            if read < own.get(user_id, 0):
                yield WRONG_UNREAD, f"{user_id} read {read} of {header.conversation_id} and wrote {own[user_id]}"
            counted = histories.store.inboxes.get((user_id, header.conversation_id), 0)
            if counted != header.last_seq - read:
                right = header.last_seq - read
                yield WRONG_UNREAD, f"{user_id}'s inbox has {counted} of {header.conversation_id}, not {right}"
    for conversation_id, user_id, seq in histories.marks:
        stored = histories.store.headers[conversation_id].read[user_id]
        if stored < seq:
            yield WRONG_UNREAD, f"{user_id} was told to have read {seq} of {conversation_id}; stored is {stored}"


def _counts(histories: Histories) -> Iterator[Complaint]:
    for counts in histories.counts:
        total = 0
        for header in histories.store.headers.values():
            if counts.user_id not in header.read:
                continue
            unread = header.last_seq - header.read[counts.user_id]
            total += unread
            told = counts.unread.get(header.conversation_id)
            if told != unread:
                yield WRONG_UNREAD, f"{counts.user_id} is told {told} of {header.conversation_id}, not {unread}"
        if counts.total_unread != total:
            yield WRONG_UNREAD, f"{counts.user_id} is told {counts.total_unread} in all instead of {total}"


# --- Answers ----------------------------------------------------------------------------------------------


def _answers(histories: Histories) -> Iterator[Complaint]:
    known = {sending.key for sending in histories.sendings}
    for sending in histories.sendings:
        if sending.refusal:
            yield REFUSED, f"{sending.key} was refused as {sending.refusal}"
        elif not sending.acks:
            yield REFUSED, f"{sending.key} was never acked in {sending.tries} tries: {sending.failures[-5:]}"
    for message in histories.store.messages:
        if message.key not in known:
            yield REFUSED, f"{message.key} is stored, and nobody sent it"
    for refusal in histories.refusals:
        yield REFUSED, refusal
    for _ in range(histories.dead_letters):
        yield REFUSED, "an item lies among the dead letters"
