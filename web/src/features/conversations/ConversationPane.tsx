import { useAppDispatch, useAppSelector } from "@/app/hooks";
import type { Conversation } from "@/protocol";
import { Avatar } from "@/ui/Avatar";
import { Icon } from "@/ui/Icon";
import { timeAgo } from "@/ui/time";
import { useNow } from "@/ui/useNow";
import { selectMe } from "../auth/authSlice";
import { Composer } from "../messages/Composer";
import { MessageList } from "../messages/MessageList";
import { selectThreadError } from "../messages/messagesSlice";
import { selectPresence } from "../presence/presenceSlice";
import { TypingIndicator } from "../typing/TypingIndicator";
import { selectOpenConversation } from "./conversationSelectors";
import { selectListState } from "./conversationsSlice";
import { conversationName, otherParticipant } from "./names";
import { ParticipantList } from "./ParticipantList";
import { participantsClosed, participantsOpened, selectParticipants } from "./participantsSlice";
import { conversationClosed, selectOpenId } from "./screenSlice";

export function ConversationPane() {
  const id = useAppSelector(selectOpenId);
  const conversation = useAppSelector(selectOpenConversation);
  const { loaded } = useAppSelector(selectListState);
  const error = useAppSelector((state) => (id === null ? undefined : selectThreadError(state, id)));
  const me = useAppSelector(selectMe);

  if (id === null) return <NoConversationOpen />;
  if (!conversation) return <ConversationUnavailable failed={loaded || error !== undefined} />;
  return (
    <section className="pane" aria-label={`Conversation with ${conversationName(conversation, me)}`}>
      <Header conversation={conversation} />
      <ParticipantList conversationId={id} />
      <MessageList key={id} conversation={conversation} />
      <TypingIndicator conversationId={id} />
      <Composer conversationId={id} name={conversationName(conversation, me)} />
    </section>
  );
}

function BackButton() {
  const dispatch = useAppDispatch();
  return (
    <button
      type="button"
      className="icon-button back"
      aria-label="Back to conversations"
      onClick={() => dispatch(conversationClosed())}
    >
      <Icon name="back" />
    </button>
  );
}

function Header({ conversation }: { conversation: Conversation }) {
  const me = useAppSelector(selectMe);
  const direct = conversation.kind === "direct";
  const other = otherParticipant(conversation, me);
  const online = useAppSelector((state) => selectPresence(state, other.id)?.online ?? false);
  return (
    <header className="pane__header">
      <BackButton />
      <Avatar
        user={direct ? other : { id: conversation.id, name: "", picture: null }}
        group={!direct}
        online={direct && online}
      />
      <div className="pane__title">
        <h2>{conversationName(conversation, me)}</h2>
        <p>{direct ? <Presence userId={other.id} /> : <ParticipantCount conversation={conversation} />}</p>
      </div>
    </header>
  );
}

function Presence({ userId }: { userId: string }) {
  const presence = useAppSelector((state) => selectPresence(state, userId));
  const now = useNow(30_000);
  if (presence?.online) return <span className="online">Online</span>;
  // Presence is unknown while offline: keep the line empty.
  if (!presence) return "\u00a0";
  return presence.last_seen_at ? `Last seen ${timeAgo(presence.last_seen_at, now)}` : "Offline";
}

/** How many people are in a group, and how many of them are online if it shows all. Opens the list of them. */
function ParticipantCount({ conversation }: { conversation: Conversation }) {
  const { id, participants, participant_count } = conversation;
  const dispatch = useAppDispatch();
  const opened = useAppSelector((state) => selectParticipants(state).shownFor === id);
  const online = useAppSelector((state) =>
    participants.length < participant_count
      ? 0
      : participants.filter(({ user }) => selectPresence(state, user.id)?.online).length,
  );
  return (
    <button
      type="button"
      className="pane__count"
      aria-expanded={opened}
      aria-controls="participants"
      onClick={() => dispatch(opened ? participantsClosed() : participantsOpened(id))}
    >
      {participant_count} people{online > 0 ? `, ${online} online` : ""}
    </button>
  );
}

const MODIFIER = /Mac|iPhone|iPad/.test(navigator.userAgent) ? "⌘" : "Ctrl";

function NoConversationOpen() {
  return (
    <section className="pane pane--empty" aria-label="No conversation open">
      <div className="empty">
        <span className="empty__mark" aria-hidden="true">
          <svg viewBox="0 0 96 72" width="132" height="99">
            <path
              className="bubble bubble--back"
              d="M36 8h44a10 10 0 0 1 10 10v20a10 10 0 0 1-10 10v10L68 48H36a10 10 0 0 1-10-10V18A10 10 0 0 1 36 8z"
            />
            <path
              className="bubble bubble--front"
              d="M16 24h40a10 10 0 0 1 10 10v16a10 10 0 0 1-10 10H30L18 69v-9h-2A10 10 0 0 1 6 50V34a10 10 0 0 1 10-10z"
            />
            <path className="bubble__lines" d="M19 37h32M19 47h20" />
          </svg>
        </span>
        <h2>Pick up where you left off</h2>
        <p>
          Select a conversation, or press <kbd>{MODIFIER}</kbd> <kbd>K</kbd> to find someone.
        </p>
      </div>
    </section>
  );
}

function ConversationUnavailable({ failed }: { failed: boolean }) {
  const dispatch = useAppDispatch();
  return (
    <section className="pane" aria-label="Conversation">
      <header className="pane__header">
        <BackButton />
      </header>
      {failed ? (
        <div className="empty" role="alert">
          <span className="empty__icon">
            <Icon name="alert" size={28} />
          </span>
          <h2>Conversation not found</h2>
          <p>It doesn’t exist, or you don’t have access to it.</p>
          <button type="button" className="button" onClick={() => dispatch(conversationClosed())}>
            Show all conversations
          </button>
        </div>
      ) : (
        <div className="empty">
          <span className="spinner" role="status" aria-label="Loading conversation" />
        </div>
      )}
    </section>
  );
}
