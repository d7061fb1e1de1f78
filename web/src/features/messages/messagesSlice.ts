import { createEntityAdapter, createSlice, isAnyOf, type EntityState, type PayloadAction } from "@reduxjs/toolkit";
import type { Message, MessagePage } from "@/protocol";
import { sessionReady } from "../connection/connectionSlice";
import { conversationClosed, conversationOpened } from "../conversations/screenSlice";
import { messageAccepted, messageReceived } from "./messageEvents";

const adapter = createEntityAdapter<Message>({ sortComparer: (a, b) => a.seq - b.seq });

/** The loaded part of a conversation's history. */
export interface Thread {
  messages: EntityState<Message, string>;
  /** No message is missing between the first loaded one and this sequence number. */
  contiguousUpTo: number;
  hasOlder: boolean;
  loadingOlder: boolean;
  /** The number of the session in which the history was last compared with the server. */
  session: number;
}

export interface MessagesState {
  threads: Record<string, Thread | undefined>;
  /** Why the messages of a conversation failed to load, by conversation. */
  errors: Record<string, string | undefined>;
}

interface LoadedPage extends MessagePage {
  conversation_id: string;
  session: number;
}

const initialState: MessagesState = { threads: {}, errors: {} };

/** When another conversation is opened, long threads are cut to this many messages. */
const KEPT_MESSAGES = 200;
const { selectAll } = adapter.getSelectors();
const NO_MESSAGES: Message[] = [];

/** The sequence number of the first loaded message. */
export const firstSeq = (thread: Thread) => {
  const id = thread.messages.ids[0];
  return id === undefined ? thread.contiguousUpTo + 1 : (thread.messages.entities[id]?.seq ?? 0);
};

/** Add messages and advance `contiguousUpTo` to the next gap. */
function addMessages(thread: Thread, messages: Message[]): void {
  adapter.addMany(thread.messages, messages);
  const { ids, entities } = thread.messages;
  const first = firstSeq(thread);
  const seqAt = (seq: number) => entities[ids[seq - first] ?? ""]?.seq;
  while (seqAt(thread.contiguousUpTo + 1) === thread.contiguousUpTo + 1) thread.contiguousUpTo += 1;
}

/** Add a message from a push or an ack, if it belongs to the loaded part of the history. */
function addPushed(state: MessagesState, message: Message): void {
  const thread = state.threads[message.conversation_id];
  // A message outside the loaded part is skipped: a page of the history will contain it.
  if (!thread || (thread.hasOlder && message.seq < firstSeq(thread))) return;
  if (thread.messages.entities[message.id]) return;
  addMessages(thread, [message]);
}

export const messagesSlice = createSlice({
  name: "messages",
  initialState,
  reducers: {
    /** Replace the thread with the newest page. */
    newestLoaded(state, { payload }: PayloadAction<LoadedPage>) {
      const { messages, has_more, conversation_id, session } = payload;
      state.errors[conversation_id] = undefined;
      state.threads[conversation_id] = {
        messages: adapter.setAll(adapter.getInitialState(), messages),
        contiguousUpTo: messages.at(-1)?.seq ?? 0,
        hasOlder: has_more,
        loadingOlder: false,
        session,
      };
    },
    newerLoaded(state, { payload }: PayloadAction<LoadedPage>) {
      const thread = state.threads[payload.conversation_id];
      if (!thread) return;
      addMessages(thread, payload.messages);
      if (!payload.has_more) thread.session = Math.max(thread.session, payload.session);
    },
    olderRequested(state, { payload }: PayloadAction<string>) {
      const thread = state.threads[payload];
      if (thread?.hasOlder) thread.loadingOlder = true;
    },
    olderLoaded(state, { payload }: PayloadAction<LoadedPage>) {
      const thread = state.threads[payload.conversation_id];
      if (!thread) return;
      adapter.addMany(thread.messages, payload.messages);
      thread.hasOlder = payload.has_more;
      thread.loadingOlder = false;
    },
    threadFailed(state, { payload }: PayloadAction<{ conversation_id: string; message: string }>) {
      state.errors[payload.conversation_id] = payload.message;
    },
    threadRetried(state, { payload }: PayloadAction<string>) {
      state.errors[payload] = undefined;
    },
  },
  extraReducers: (builder) => {
    builder
      .addCase(sessionReady, (state) => {
        state.errors = {};
      })
      .addCase(messageReceived, (state, { payload }) => addPushed(state, payload))
      .addCase(messageAccepted, (state, { payload }) => addPushed(state, payload))
      // Drop the beginning of long threads to save memory. It can be loaded again.
      .addMatcher(isAnyOf(conversationOpened, conversationClosed), (state) => {
        for (const thread of Object.values(state.threads)) {
          const surplus = (thread?.messages.ids.length ?? 0) - KEPT_MESSAGES;
          if (!thread || surplus <= KEPT_MESSAGES) continue;
          adapter.removeMany(thread.messages, thread.messages.ids.slice(0, surplus));
          thread.hasOlder = true;
        }
      });
  },
  selectors: {
    selectThread: (state, id: string) => state.threads[id],
    selectThreadError: (state, id: string) => state.errors[id],
    /** The loaded messages of a conversation, in order. */
    selectMessages: (state, id: string): Message[] => {
      const thread = state.threads[id];
      return thread ? selectAll(thread.messages) : NO_MESSAGES;
    },
  },
});

export const { newestLoaded, newerLoaded, olderRequested, olderLoaded, threadFailed, threadRetried } =
  messagesSlice.actions;
export const { selectThread, selectThreadError, selectMessages } = messagesSlice.selectors;
