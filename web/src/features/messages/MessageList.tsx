import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import { useAppDispatch, useAppSelector } from "@/app/hooks";
import type { Conversation } from "@/protocol";
import { Avatar } from "@/ui/Avatar";
import { Icon } from "@/ui/Icon";
import { selectMe } from "../auth/authSlice";
import { selectUnread } from "../conversations/conversationsSlice";
import { conversationName, otherParticipant } from "../conversations/names";
import { messagesViewed, selectScreen } from "../conversations/screenSlice";
import { createCutter } from "./blocks";
import { MessageBlock } from "./MessageBlock";
import type { OutgoingMessage } from "./messageEvents";
import { olderRequested, selectMessages, selectThread, selectThreadError, threadRetried } from "./messagesSlice";
import { selectOutgoing } from "./outboxSlice";
import { useScrollKeeper } from "./useScrollKeeper";

/** Older messages are asked for when the view comes this near to the beginning, in pixels. */
const NEAR_BEGINNING = 800;
const NONE: OutgoingMessage[] = [];

/** The messages of the open conversation. Give it the conversation's id as `key`: each one starts afresh. */
export function MessageList({ conversation }: { conversation: Conversation }) {
  const { id } = conversation;
  const dispatch = useAppDispatch();
  const me = useAppSelector(selectMe);
  const thread = useAppSelector((state) => selectThread(state, id));
  const messages = useAppSelector((state) => selectMessages(state, id));
  const outgoing = useAppSelector((state) => selectOutgoing(state, id));
  const error = useAppSelector((state) => selectThreadError(state, id));
  const unread = useAppSelector((state) => selectUnread(state, id));
  const { dividerAfter } = useAppSelector(selectScreen);

  const loaded = thread !== undefined;
  const end = outgoing.at(-1)?.client_message_id ?? "";
  const content = useMemo(() => ({ messages, end, dividerAfter, loaded }), [messages, end, dividerAfter, loaded]);
  const { scroller, atEnd, toEnd, toElement } = useScrollKeeper(content);

  const [cut] = useState(createCutter);
  const blocks = useMemo(() => {
    const whole = cut(messages);
    return whole.length > 0 ? whole : [{ key: 0, messages: [], previous: null }];
  }, [cut, messages]);

  const firstHeld = messages[0]?.seq ?? 1;
  // While the first unread message is further up than what is held, there is a button that leads to it.
  const unreadAbove = dividerAfter !== null && thread?.hasOlder === true && firstHeld > dividerAfter + 1;
  const firstUnread = useMemo(
    () =>
      dividerAfter === null || unreadAbove
        ? null
        : (messages.find(({ seq, sender_id }) => seq > dividerAfter && sender_id !== me)?.seq ?? null),
    [messages, dividerAfter, unreadAbove, me],
  );
  const seenUpTo = useMemo(() => everyoneReadUpTo(conversation, me), [conversation, me]);

  // Begin at the first unread message; without one, the end is where every conversation begins.
  const begun = useRef(false);
  useLayoutEffect(() => {
    if (begun.current || !loaded) return;
    begun.current = true;
    const divider = scroller.current?.querySelector("[data-unread-divider]");
    if (divider) toElement(divider);
  }, [loaded, scroller, toElement]);

  // One's own message is always brought into view.
  useLayoutEffect(() => {
    if (end !== "") toEnd();
  }, [end, toEnd]);

  useEffect(() => {
    if (atEnd && thread && thread.contiguousUpTo > 0)
      dispatch(messagesViewed({ conversationId: id, seq: thread.contiguousUpTo }));
  }, [atEnd, thread, id, dispatch]);

  const [seeking, setSeeking] = useState(false);
  const canLoadOlder = thread?.hasOlder === true && !thread.loadingOlder;
  useEffect(() => {
    const box = scroller.current;
    if (!box || !canLoadOlder) return undefined;
    const look = () => {
      if (box.scrollTop < NEAR_BEGINNING) dispatch(olderRequested(id));
    };
    look();
    box.addEventListener("scroll", look, { passive: true });
    return () => box.removeEventListener("scroll", look);
  }, [canLoadOlder, id, dispatch, messages, scroller]);

  useLayoutEffect(() => {
    if (!seeking) return;
    const divider = unreadAbove ? null : scroller.current?.querySelector("[data-unread-divider]");
    if (divider) toElement(divider);
    else scroller.current?.scrollTo({ top: 0 });
  }, [seeking, unreadAbove, toElement, messages, scroller]);

  const seek = () => setSeeking(true);
  const stopSeeking = () => setSeeking(false);

  const name = conversationName(conversation, me);
  const empty = loaded && messages.length === 0 && outgoing.length === 0;
  return (
    <div className="messages">
      <div
        className="messages__scroller"
        ref={scroller}
        role="log"
        aria-live="off"
        aria-label={`Messages with ${name}`}
        aria-busy={!loaded}
        tabIndex={0}
        onWheel={stopSeeking}
        onTouchMove={stopSeeking}
        onKeyDown={stopSeeking}
      >
        <div className="messages__content">
          {error !== undefined && !loaded ? (
            <Failed message={error} onRetry={() => dispatch(threadRetried(id))} />
          ) : !loaded ? (
            <Skeleton />
          ) : empty ? (
            <Beginning conversation={conversation} me={me} />
          ) : (
            <>
              <div className="messages__top">
                {thread.hasOlder ? (
                  <span className="spinner" role="status" aria-label="Loading earlier messages" />
                ) : (
                  <Origin name={name} />
                )}
              </div>
              {blocks.map((block, index) => {
                const first = block.messages[0]?.seq ?? 0;
                const last = block.messages.at(-1)?.seq ?? 0;
                return (
                  <MessageBlock
                    key={block.key}
                    block={block}
                    outgoing={index === blocks.length - 1 ? outgoing : NONE}
                    me={me}
                    named={conversation.kind === "group"}
                    seenUpTo={Math.max(first - 1, Math.min(seenUpTo, last))}
                    firstUnread={
                      firstUnread !== null && firstUnread >= first && firstUnread <= last ? firstUnread : null
                    }
                  />
                );
              })}
              <Readers conversation={conversation} me={me} lastSeq={thread.contiguousUpTo} />
            </>
          )}
        </div>
      </div>
      {unreadAbove && (
        <button type="button" className="pill pill--top" onClick={seek}>
          <Icon name="up" size={16} /> Jump to first unread message
        </button>
      )}
      {!atEnd && (
        <button
          type="button"
          className="pill pill--end"
          onClick={toEnd}
          aria-label={unread > 0 ? `Jump to latest messages, ${unread} unread` : "Jump to latest messages"}
        >
          {unread > 0 && <span className="badge">{unread}</span>}
          <Icon name="down" size={18} />
        </button>
      )}
      <Announcer conversation={conversation} me={me} />
    </div>
  );
}

/** The last message that all the others have read. */
function everyoneReadUpTo(conversation: Conversation, me: string | null): number {
  const others = conversation.participants.filter(({ user }) => user.id !== me);
  return others.length === 0 ? 0 : Math.min(...others.map(({ last_read_seq }) => last_read_seq));
}

/** In a group: who has read to the end, when the end is one's own message. */
function Readers({ conversation, me, lastSeq }: { conversation: Conversation; me: string | null; lastSeq: number }) {
  if (conversation.kind === "direct" || conversation.last_message?.sender_id !== me || lastSeq === 0) return null;
  const others = conversation.participants.filter(({ user }) => user.id !== me);
  const readers = others.filter(({ last_read_seq }) => last_read_seq >= lastSeq).map(({ user }) => user.name);
  if (readers.length === 0) return null;
  const names =
    readers.length > 3 ? `${readers.slice(0, 3).join(", ")} and ${readers.length - 3} more` : readers.join(", ");
  return (
    <p className="readers">Seen by {readers.length === others.length && readers.length > 1 ? "everyone" : names}</p>
  );
}

/** Tells screen readers each message that arrives; the list itself stays silent, or loading would read it all out. */
function Announcer({ conversation, me }: { conversation: Conversation; me: string | null }) {
  const last = conversation.last_message;
  const [openedAt] = useState(last?.seq ?? 0);
  const author = conversation.participants.find(({ user }) => user.id === last?.sender_id)?.user.name;
  return (
    <p className="visually-hidden" aria-live="polite">
      {last && last.seq > openedAt && last.sender_id !== me ? `${author ?? "Someone"}: ${last.preview}` : ""}
    </p>
  );
}

function Origin({ name }: { name: string }) {
  return <p className="messages__origin">This is the beginning of your conversation with {name}.</p>;
}

function Beginning({ conversation, me }: { conversation: Conversation; me: string | null }) {
  const other = otherParticipant(conversation, me);
  const direct = conversation.kind === "direct";
  return (
    <div className="empty">
      <Avatar user={direct ? other : { id: conversation.id, name: "", picture: null }} group={!direct} size="large" />
      <h3>
        {direct ? `Say hello to ${other.name}` : `Start the conversation in ${conversationName(conversation, me)}`}
      </h3>
      <p>{direct ? other.name : "The other members"} will see this conversation when you send the first message.</p>
    </div>
  );
}

function Failed({ message, onRetry }: { message: string; onRetry: () => void }) {
  return (
    <div className="empty" role="alert">
      <span className="empty__icon">
        <Icon name="alert" size={28} />
      </span>
      <h3>Couldn’t load messages</h3>
      <p>{message}</p>
      <button type="button" className="button" onClick={onRetry}>
        Try again
      </button>
    </div>
  );
}

const WIDTHS = [[58], [34, 46], [62], [28], [51, 40], [36]];

function Skeleton() {
  return (
    <div className="skeleton-messages" role="status" aria-label="Loading messages">
      {WIDTHS.map((group, index) => (
        <div key={index} className={index % 2 ? "skeleton-group skeleton-group--mine" : "skeleton-group"}>
          {group.map((width) => (
            <span key={width} className="skeleton skeleton--bubble" style={{ width: `${width}%` }} />
          ))}
        </div>
      ))}
    </div>
  );
}
