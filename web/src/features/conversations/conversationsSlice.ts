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
import { isAtLeastAsNew, mergeConversation, previewOf, type Unread } from "./merge";

const adapter = createEntityAdapter<Conversation>({
  sortComparer: (a, b) => compare(b.updated_at, a.updated_at) || compare(a.id, b.id),
});

const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

interface ListState {
  me: string | null;
  unread: Record<string, Unread | undefined>;
  /** How far participants have read whom the conversation does not show, by conversation and user, as far as heard. */
  heardReads: Record<string, Record<string, number> | undefined>;
  totalUnread: number;
  /** Of two totals, the one with the higher version is newer. */
  totalVersion: number;
  /** How many times the list was requested and loaded. If fewer were loaded, a request is pending. */
  snapshotsRequested: number;
  snapshotsLoaded: number;
  nextCursor: string | null;
  loadingMore: boolean;
  /** Why the last request of the list failed, until one succeeds. */
  error: string | null;
}

const initialState = adapter.getInitialState<ListState>({
  me: null,
  unread: {},
  heardReads: {},
  totalUnread: 0,
  totalVersion: 0,
  snapshotsRequested: 0,
  snapshotsLoaded: 0,
  nextCursor: null,
  loadingMore: false,
  error: null,
});

type State = typeof initialState;

/** Every conversation is stored here. Storing one never opens it: the screen slice decides what is open. */
function upsertConversation(state: State, incoming: Conversation): void {
  adapter.setOne(state, mergeConversation(state.entities[incoming.id], incoming));
  setUnreadIfNewer(state, incoming.id, incoming);
}

/** Store an unread count unless a newer one is stored already. */
function setUnreadIfNewer(state: State, id: string, { unread_count, last_seq, last_read_seq }: Unread): void {
  const unread = { unread_count, last_seq, last_read_seq };
  if (isAtLeastAsNew(unread, state.unread[id])) state.unread[id] = unread;
}

/** Store a total unless a newer one is stored already. */
function setTotalIfNewer(state: State, total: Pick<UnreadCount, "total_unread" | "total_version">): void {
  if (total.total_version < state.totalVersion) return;
  state.totalUnread = total.total_unread;
  state.totalVersion = total.total_version;
}

/** Move a participant's read position forward; it never moves back. */
function markRead(state: State, conversation: Conversation, userId: string, seq: number, at: string | null): void {
  const shown = conversation.participants.find(({ user }) => user.id === userId);
  for (const part of [shown, userId === state.me ? conversation : undefined]) {
    if (!part || part.last_read_seq >= seq) continue;
    part.last_read_seq = seq;
    part.last_read_at = at;
  }
  if (shown || userId === state.me) return;
  const heard = (state.heardReads[conversation.id] ??= {});
  heard[userId] = Math.max(seq, heard[userId] ?? 0);
}

/** Update a conversation's row in the list for a new message. */
function applyMessage(state: State, message: Message): void {
  const conversation = state.entities[message.conversation_id];
  if (!conversation) {
    // The push of this conversation was lost or is late: load the list again.
    state.snapshotsRequested += 1;
    return;
  }
  // Like the server, treat everything up to a message as read by its sender.
  markRead(state, conversation, message.sender_id, message.seq, message.sent_at);
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

const NOTHING_HEARD: Record<string, number> = {};

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
      upsertConversation(state, payload);
    },
    /** A conversation that this client started. The screen slice opens it, unless the user opened another one since. */
    conversationStarted(state, { payload }: PayloadAction<{ request: string; conversation: Conversation }>) {
      upsertConversation(state, payload.conversation);
    },
    conversationsListed(state, { payload }: PayloadAction<ConversationPage>) {
      for (const conversation of payload.conversations) upsertConversation(state, conversation);
      setTotalIfNewer(state, payload);
      state.nextCursor = payload.next_cursor;
      state.loadingMore = false;
      state.error = null;
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
        setUnreadIfNewer(state, payload.conversation_id, payload);
        setTotalIfNewer(state, payload);
      },
    },
    seenByOther: {
      prepare: prepareAutoBatched<SeenByOther>(),
      reducer(state, { payload }: PayloadAction<SeenByOther>) {
        const conversation = state.entities[payload.conversation_id];
        if (conversation) markRead(state, conversation, payload.user_id, payload.last_read_seq, payload.last_read_at);
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
      .addCase(messageReceived, (state, { payload }) => applyMessage(state, payload))
      .addCase(messageAccepted, (state, { payload }) => applyMessage(state, payload));
  },
  selectors: {
    /** The ids of the conversations in the list, newest activity first. */
    selectConversationIds: (state) => state.ids,
    selectConversation: (state, id: string | null): Conversation | undefined =>
      id === null ? undefined : state.entities[id],
    selectTotalUnread: (state) => state.totalUnread,
    /** Whether the list is loaded, why loading failed, and whether there are more pages. */
    selectListState: listState,
    /** The sequence number up to which this user has read, according to the server. */
    selectLastRead: (state, id: string) => state.unread[id]?.last_read_seq ?? 0,
    selectUnread: (state, id: string) => state.unread[id]?.unread_count ?? 0,
    selectHeardReads: (state, id: string) => state.heardReads[id] ?? NOTHING_HEARD,
  },
});

export const {
  conversationUpdated,
  conversationStarted,
  conversationsListed,
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
  selectHeardReads,
} = conversationsSlice.selectors;
