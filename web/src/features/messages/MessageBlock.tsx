import { Fragment, memo } from "react";
import { useAppDispatch, useAppSelector, useAppStore } from "@/app/hooks";
import type { Message } from "@/protocol";
import { selectPeople, selectPerson } from "../people/peopleSlice";
import { dayLabel, dayNumber } from "@/ui/time";
import type { Block } from "./messageBlocks";
import { draftChanged, selectDraft } from "./draftsSlice";
import type { OutgoingMessage } from "./messageEvents";
import { MessageRow } from "./MessageRow";
import { outgoingRemoved } from "./outboxSlice";
import { focusComposer } from "./Composer";

/** Messages of one sender that are further apart than this belong to separate groups. */
const GROUP_MILLISECONDS = 5 * 60_000;

type Row = Pick<Message, "sender_id" | "sent_at">;

const toRow = (entry: OutgoingMessage, me: string | null): Row => ({ sender_id: me ?? "", sent_at: entry.composed_at });

interface Props {
  block: Block;
  /** Unsent messages of this user, at the end of the last block. */
  outgoing: OutgoingMessage[];
  me: string | null;
  /** Whether names and pictures of senders are shown, as in groups. */
  showSender: boolean;
  /** Messages of this user up to this sequence number were seen. */
  seenUpTo: number;
  /** The sequence number of the first unread message, if it is in this block. */
  firstUnread: number | null;
}

export const MessageBlock = memo(function MessageBlock({
  block,
  outgoing,
  me,
  showSender,
  seenUpTo,
  firstUnread,
}: Props) {
  // Re-render when a name changes. This is rare, so one subscription per block is enough.
  useAppSelector((state) => selectPeople(state).usersById);
  const store = useAppStore();
  const person = (id: string) => selectPerson(store.getState(), id);

  const rows = block.messages.map((message, index) => {
    const before = index > 0 ? (block.messages[index - 1] ?? null) : block.previous;
    const newDay = startsDay(before, message);
    const unread = message.seq === firstUnread;
    const gap = before !== null && message.seq > before.seq + 1;
    const mine = message.sender_id === me;
    return (
      <Fragment key={`${message.sender_id}/${message.client_message_id}`}>
        {gap && <div className="gap">Loading missing messages…</div>}
        {newDay && <DayHeading time={message.sent_at} />}
        {unread && <UnreadDivider />}
        <MessageRow
          body={message.body}
          time={message.sent_at}
          sender={person(message.sender_id)}
          mine={mine}
          first={newDay || unread || gap || startsGroup(before, message)}
          showSender={showSender}
          status={mine ? (message.seq <= seenUpTo ? "seen" : "sent") : null}
        />
      </Fragment>
    );
  });

  const outgoingRows = outgoing.map((entry, index) => {
    const entryBefore = outgoing[index - 1];
    const before = entryBefore ? toRow(entryBefore, me) : (block.messages.at(-1) ?? block.previous);
    const row = toRow(entry, me);
    const newDay = startsDay(before, row);
    return (
      <Fragment key={`${row.sender_id}/${entry.client_message_id}`}>
        {newDay && <DayHeading time={entry.composed_at} />}
        <OutgoingRow entry={entry} me={me} first={newDay || startsGroup(before, row)} />
      </Fragment>
    );
  });

  return <div className="block">{[...rows, ...outgoingRows]}</div>;
});

function OutgoingRow({ entry, me, first }: { entry: OutgoingMessage; me: string | null; first: boolean }) {
  const dispatch = useAppDispatch();
  const store = useAppStore();
  const sender = useAppSelector((state) => selectPerson(state, me ?? ""));

  const edit = () => {
    const { conversation_id: conversationId, body, client_message_id } = entry;
    const draft = selectDraft(store.getState(), conversationId);
    dispatch(draftChanged({ conversationId, text: draft.trim() ? `${body}\n\n${draft}` : body }));
    dispatch(outgoingRemoved(client_message_id));
    focusComposer();
  };

  return (
    <MessageRow
      body={entry.body}
      time={entry.composed_at}
      sender={sender}
      mine
      first={first}
      showSender={false}
      status="pending"
      refusal={entry.refusal?.message}
      onEdit={edit}
      onDiscard={() => dispatch(outgoingRemoved(entry.client_message_id))}
    />
  );
}

const startsDay = (previous: Row | null, row: Row) =>
  previous === null || dayNumber(previous.sent_at) !== dayNumber(row.sent_at);

const startsGroup = (previous: Row | null, row: Row) =>
  previous?.sender_id !== row.sender_id ||
  new Date(row.sent_at).getTime() - new Date(previous.sent_at).getTime() > GROUP_MILLISECONDS;

function DayHeading({ time }: { time: string }) {
  return (
    <div className="day" role="separator" aria-label={dayLabel(time)}>
      <span>{dayLabel(time)}</span>
    </div>
  );
}

function UnreadDivider() {
  return (
    <div className="unread-divider" role="separator" aria-label="New messages" data-unread-divider="">
      <span>New</span>
    </div>
  );
}
