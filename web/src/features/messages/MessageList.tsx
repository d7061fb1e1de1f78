import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import { useAppDispatch, useAppSelector } from "@/app/hooks";
import type { Conversation } from "@/protocol";
import { Avatar } from "@/ui/Avatar";
import { Icon } from "@/ui/Icon";
import { selectMe } from "../auth/authSlice";
import { selectHeardReads, selectUnread } from "../conversations/conversationsSlice";
import { conversationName, otherParticipant, someOf } from "../conversations/names";
import { everyoneReadUpTo, readsOfOthers } from "../conversations/reads";
import { messagesViewed, selectScreen } from "../conversations/screenSlice";
import { selectPeople } from "../people/peopleSlice";
import { createBlockSplitter } from "./messageBlocks";
import { MessageBlock } from "./MessageBlock";
import type { OutgoingMessage } from "./messageEvents";
import { olderRequested, selectMessages, selectThread, selectThreadError, threadRetried } from "./messagesSlice";
import { selectOutgoing } from "./outboxSlice";
import { useScrollAnchor } from "./useScrollAnchor";

/** Older messages are loaded when the view is within this many pixels of the beginning. */
const LOAD_OLDER_DISTANCE = 800;
const NO_OUTGOING: OutgoingMessage[] = [];

/** The messages of the open conversation. Set the conversation's id as `key`, so that each one has its own state. */
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
  const { scroller, atEnd, scrollToEnd, scrollToElement } = useScrollAnchor(content);

  const [splitIntoBlocks] = useState(createBlockSplitter);
  const blocks = useMemo(() => {
    const split = splitIntoBlocks(messages);
    return split.length > 0 ? split : [{ key: 0, messages: [], previous: null }];
  }, [splitIntoBlocks, messages]);

  const firstLoaded = messages[0]?.seq ?? 1;
  // If the first unread message is not loaded yet, a button leads to it.
  const unreadAbove = dividerAfter !== null && thread?.hasOlder === true && firstLoaded > dividerAfter + 1;
  const firstUnread = useMemo(
    () =>
      dividerAfter === null || unreadAbove
        ? null
        : (messages.find(({ seq, sender_id }) => seq > dividerAfter && sender_id !== me)?.seq ?? null),
    [messages, dividerAfter, unreadAbove, me],
  );
  const heard = useAppSelector((state) => selectHeardReads(state, id));
  const seenUpTo = useMemo(() => everyoneReadUpTo(conversation, heard, me), [conversation, heard, me]);

  // Start at the first unread message, or at the end if there is none.
  const positioned = useRef(false);
  useLayoutEffect(() => {
    if (positioned.current || !loaded) return;
    positioned.current = true;
    const divider = scroller.current?.querySelector("[data-unread-divider]");
    if (divider) scrollToElement(divider);
  }, [loaded, scroller, scrollToElement]);

  // Scroll to the end when the user sends a message.
  useLayoutEffect(() => {
    if (end !== "") scrollToEnd();
  }, [end, scrollToEnd]);

  useEffect(() => {
    if (atEnd && thread && thread.contiguousUpTo > 0)
      dispatch(messagesViewed({ conversationId: id, seq: thread.contiguousUpTo }));
  }, [atEnd, thread, id, dispatch]);

  const [scrollingToUnread, setScrollingToUnread] = useState(false);
  const canLoadOlder = thread?.hasOlder === true && !thread.loadingOlder;
  useEffect(() => {
    const box = scroller.current;
    if (!box || !canLoadOlder) return undefined;
    const loadIfNear = () => {
      if (box.scrollTop < LOAD_OLDER_DISTANCE) dispatch(olderRequested(id));
    };
    loadIfNear();
    box.addEventListener("scroll", loadIfNear, { passive: true });
    return () => box.removeEventListener("scroll", loadIfNear);
  }, [canLoadOlder, id, dispatch, messages, scroller]);

  useLayoutEffect(() => {
    if (!scrollingToUnread) return;
    const divider = unreadAbove ? null : scroller.current?.querySelector("[data-unread-divider]");
    if (divider) scrollToElement(divider);
    else scroller.current?.scrollTo({ top: 0 });
  }, [scrollingToUnread, unreadAbove, scrollToElement, messages, scroller]);

  const scrollToUnread = () => setScrollingToUnread(true);
  const stopScrollingToUnread = () => setScrollingToUnread(false);

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
        onWheel={stopScrollingToUnread}
        onTouchMove={stopScrollingToUnread}
        onKeyDown={stopScrollingToUnread}
      >
        <div className="messages__content">
          {error !== undefined && !loaded ? (
            <LoadError message={error} onRetry={() => dispatch(threadRetried(id))} />
          ) : !loaded ? (
            <Skeleton />
          ) : empty ? (
            <EmptyConversation conversation={conversation} me={me} />
          ) : (
            <>
              <div className="messages__top">
                {thread.hasOlder ? (
                  <span className="spinner" role="status" aria-label="Loading earlier messages" />
                ) : (
                  <ConversationStart name={name} />
                )}
              </div>
              {blocks.map((block, index) => {
                const first = block.messages[0]?.seq ?? 0;
                const last = block.messages.at(-1)?.seq ?? 0;
                return (
                  <MessageBlock
                    key={block.key}
                    block={block}
                    outgoing={index === blocks.length - 1 ? outgoing : NO_OUTGOING}
                    me={me}
                    showSender={conversation.kind === "group"}
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
        <button type="button" className="pill pill--top" onClick={scrollToUnread}>
          <Icon name="up" size={16} /> Jump to first unread message
        </button>
      )}
      {!atEnd && (
        <button
          type="button"
          className="pill pill--end"
          onClick={scrollToEnd}
          aria-label={unread > 0 ? `Jump to latest messages, ${unread} unread` : "Jump to latest messages"}
        >
          {unread > 0 && <span className="badge">{unread}</span>}
          <Icon name="down" size={18} />
        </button>
      )}
      <LiveAnnouncer conversation={conversation} me={me} />
    </div>
  );
}

/** In a group: who has read the last message, if this user sent it. */
function Readers({ conversation, me, lastSeq }: { conversation: Conversation; me: string | null; lastSeq: number }) {
  const heard = useAppSelector((state) => selectHeardReads(state, conversation.id));
  const { usersById } = useAppSelector(selectPeople);
  if (conversation.kind === "direct" || conversation.last_message?.sender_id !== me || lastSeq === 0) return null;
  const readers = readsOfOthers(conversation, heard, me).filter(([, seq]) => seq >= lastSeq);
  if (readers.length === 0) return null;
  const everyone = readers.length > 1 && readers.length === conversation.participant_count - 1;
  const names = readers.slice(0, 3).map(([id]) => usersById[id]?.name ?? id);
  return <p className="readers">Seen by {everyone ? "everyone" : someOf(names, readers.length)}</p>;
}

/** Announces new messages to screen readers. The list itself is not live, because loading it would read everything. */
function LiveAnnouncer({ conversation, me }: { conversation: Conversation; me: string | null }) {
  const last = conversation.last_message;
  const [openedAt] = useState(last?.seq ?? 0);
  const author = useAppSelector((state) => selectPeople(state).usersById[last?.sender_id ?? ""]?.name);
  return (
    <p className="visually-hidden" aria-live="polite">
      {last && last.seq > openedAt && last.sender_id !== me ? `${author ?? "Someone"}: ${last.preview}` : ""}
    </p>
  );
}

function ConversationStart({ name }: { name: string }) {
  return <p className="messages__origin">This is the beginning of your conversation with {name}.</p>;
}

function EmptyConversation({ conversation, me }: { conversation: Conversation; me: string | null }) {
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

function LoadError({ message, onRetry }: { message: string; onRetry: () => void }) {
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
