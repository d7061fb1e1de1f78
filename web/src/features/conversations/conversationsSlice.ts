import {
  createEntityAdapter,
  createSelector,
  createSlice,
  prepareAutoBatched,
  type PayloadAction,
} from "@reduxjs/toolkit";
import type { Conversation, ConversationPage, Message, SeenByOther, UnreadCount } from "@/protocol";
import { userIdentified } from "../auth/authSlice";
import { sessionReady } from "../connection/connectionSlice";
import { messageAccepted, messageReceived } from "../messages/messageEvents";
import { isCurrent, mergeConversation, previewOf, type Unread } from "./merge";

const adapter = createEntityAdapter<Conversation>({
  sortComparer: (a, b) => compare(b.updated_at, a.updated_at) || compare(a.id, b.id),
});

const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

interface Extra {
  me: string | null;
  unread: Record<string, Unread | undefined>;
  totalUnread: number;
  /** Pictures of the list that are due, and that were taken; fewer taken than due means: take one. */
  snapshotsRequested: number;
  snapshotsLoaded: number;
  nextCursor: string | null;
  loadingMore: boolean;
  /** Why the last try to get the list failed, until one succeeds. */
  error: string | null;
}

const initialState = adapter.getInitialState<Extra>({
  me: null,
  unread: {},
  totalUnread: 0,
  snapshotsRequested: 0,
  snapshotsLoaded: 0,
  nextCursor: null,
  loadingMore: false,
  error: null,
});

type State = typeof initialState;

/** The one way a conversation gets in. It can't open anything: what is open belongs to the screen slice. */
function updateOrAddConversation(state: State, incoming: Conversation): void {
  adapter.setOne(state, mergeConversation(state.entities[incoming.id], incoming));
  const own = incoming.participants.find(({ user }) => user.id === state.me);
  if (own) holdUnread(state, incoming.id, { unread_count: incoming.unread_count, last_read_seq: own.last_read_seq });
}

/** Keep the server's number unless it is older than the one already held; tells whether it was kept. */
function holdUnread(state: State, id: string, unread: Unread): boolean {
  if (!isCurrent(unread, state.unread[id])) return false;
  state.unread[id] = { unread_count: unread.unread_count, last_read_seq: unread.last_read_seq };
  return true;
}

function markRead(conversation: Conversation, userId: string, seq: number, at: string | null): void {
  const participant = conversation.participants.find(({ user }) => user.id === userId);
  if (!participant || participant.last_read_seq >= seq) return;
  participant.last_read_seq = seq;
  participant.last_read_at = at;
}

function noteMessage(state: State, message: Message): void {
  const conversation = state.entities[message.conversation_id];
  if (!conversation) {
    // Its `conversation_updated` was lost or is late: the list tells.
    state.snapshotsRequested += 1;
    return;
  }
  // Whoever writes has read what is above: the server moves their mark up to their own message.
  markRead(conversation, message.sender_id, message.seq, message.sent_at);
  if (message.seq <= conversation.last_seq) return;
  adapter.updateOne(state, {
    id: conversation.id,
    changes: {
      last_seq: message.seq,
      updated_at: message.sent_at > conversation.updated_at ? message.sent_at : conversation.updated_at,
      last_message: {
        id: message.id,
        seq: message.seq,
        sender_id: message.sender_id,
        preview: previewOf(message),
        sent_at: message.sent_at,
      },
    },
  });
}

const totalUnread = (state: State) => state.totalUnread;

const listState = createSelector(
  [
    (state: State) => state.snapshotsLoaded > 0,
    (state: State) => state.error,
    (state: State) => state.nextCursor !== null,
  ],
  (loaded, error, hasMore) => ({ loaded, error, hasMore }),
);

export const conversationsSlice = createSlice({
  name: "conversations",
  initialState,
  reducers: {
    conversationUpdated(state, { payload }: PayloadAction<Conversation>) {
      updateOrAddConversation(state, payload);
    },
    /** The ack of this client's own start; the screen slice opens it if nothing else was opened since. */
    conversationStarted(state, { payload }: PayloadAction<{ request: string; conversation: Conversation }>) {
      updateOrAddConversation(state, payload.conversation);
    },
    conversationsListed(state, { payload }: PayloadAction<ConversationPage>) {
      for (const conversation of payload.conversations) updateOrAddConversation(state, conversation);
      state.totalUnread = payload.total_unread;
      state.nextCursor = payload.next_cursor;
      state.loadingMore = false;
      state.error = null;
    },
    /** The server's total, asked for again. */
    totalUnreadLoaded(state, { payload }: PayloadAction<number>) {
      state.totalUnread = payload;
    },
    snapshotLoaded(state, { payload }: PayloadAction<number>) {
      state.snapshotsLoaded = Math.max(state.snapshotsLoaded, payload);
    },
    snapshotFailed(state, { payload }: PayloadAction<string>) {
      state.error = payload;
    },
    snapshotRetried(state) {
      state.error = null;
    },
    moreConversationsRequested(state) {
      state.loadingMore = state.nextCursor !== null;
    },
    unreadUpdated: {
      prepare: prepareAutoBatched<UnreadCount>(),
      reducer(state, { payload }: PayloadAction<UnreadCount>) {
        if (holdUnread(state, payload.conversation_id, payload)) state.totalUnread = payload.total_unread;
      },
    },
    seenByOther: {
      prepare: prepareAutoBatched<SeenByOther>(),
      reducer(state, { payload }: PayloadAction<SeenByOther>) {
        const conversation = state.entities[payload.conversation_id];
        if (conversation) markRead(conversation, payload.user_id, payload.last_read_seq, payload.last_read_at);
      },
    },
  },
  extraReducers: (builder) => {
    builder
      .addCase(userIdentified, (state, { payload }) => {
        state.me = payload.id;
      })
      .addCase(sessionReady, (state, { payload }) => {
        state.me = payload.user.id;
        state.snapshotsRequested += 1;
        state.error = null;
      })
      .addCase(messageReceived, (state, { payload }) => noteMessage(state, payload))
      .addCase(messageAccepted, (state, { payload }) => noteMessage(state, payload));
  },
  selectors: {
    /** The ids of the conversations in the list, newest activity first. */
    selectConversationIds: (state) => state.ids,
    selectConversation: (state, id: string | null): Conversation | undefined =>
      id === null ? undefined : state.entities[id],
    selectTotalUnread: totalUnread,
    /** Whether the list is loaded, why loading it failed, and whether the server has more of it. */
    selectListState: listState,
    /** How far this person has read, as the server last said. */
    selectLastRead: (state, id: string) => state.unread[id]?.last_read_seq ?? 0,
    selectUnread: (state, id: string) => state.unread[id]?.unread_count ?? 0,
    /**
     * Whether the total belongs to another moment than the numbers of the conversations: the pushes that carry them may
     * overtake each other. The total shown is still the server's own; this only says that it is time to ask for it.
     */
    selectTotalIsStale: createSelector(
      [(state: State) => state.unread, totalUnread, listState],
      (unread, total, { loaded, hasMore }) =>
        loaded && !hasMore && Object.values(unread).reduce((sum, each) => sum + (each?.unread_count ?? 0), 0) !== total,
    ),
  },
});

export const {
  conversationUpdated,
  conversationStarted,
  conversationsListed,
  totalUnreadLoaded,
  snapshotLoaded,
  snapshotFailed,
  snapshotRetried,
  moreConversationsRequested,
  unreadUpdated,
  seenByOther,
} = conversationsSlice.actions;
export const {
  selectConversationIds,
  selectConversation,
  selectTotalUnread,
  selectListState,
  selectLastRead,
  selectUnread,
  selectTotalIsStale,
} = conversationsSlice.selectors;
