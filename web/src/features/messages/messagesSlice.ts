import { createEntityAdapter, createSlice, isAnyOf, type EntityState, type PayloadAction } from "@reduxjs/toolkit";
import type { Message, MessagePage } from "@/protocol";
import { sessionReady } from "../connection/connectionSlice";
import { conversationClosed, conversationOpened } from "../conversations/screenSlice";
import { messageAccepted, messageReceived } from "./messageEvents";

const adapter = createEntityAdapter<Message>({ sortComparer: (a, b) => a.seq - b.seq });

/** The part of one conversation's history that is held: no gap from its first message up to `contiguousUpTo`. */
export interface Thread {
  messages: EntityState<Message, string>;
  contiguousUpTo: number;
  hasOlder: boolean;
  loadingOlder: boolean;
  /** The session (by number) in which this was last compared with the server's history. */
  session: number;
}

export interface MessagesState {
  threads: Record<string, Thread | undefined>;
  /** Why a conversation's messages can't be shown, by conversation. */
  errors: Record<string, string | undefined>;
}

interface Loaded extends MessagePage {
  conversation_id: string;
  session: number;
}

const initialState: MessagesState = { threads: {}, errors: {} };

/** A thread that nobody looks at is kept down to this many messages. */
const KEPT_MESSAGES = 200;
const { selectAll } = adapter.getSelectors();
const NONE: Message[] = [];

/** The sequence number of the first message held. */
export const firstSeq = (thread: Thread) => {
  const id = thread.messages.ids[0];
  return id === undefined ? thread.contiguousUpTo + 1 : (thread.messages.entities[id]?.seq ?? 0);
};

/** Add what is new, and move `contiguousUpTo` over everything that now follows without a gap. */
function add(thread: Thread, messages: Message[]): void {
  adapter.addMany(thread.messages, messages);
  const { ids, entities } = thread.messages;
  const first = firstSeq(thread);
  const at = (seq: number) => entities[ids[seq - first] ?? ""]?.seq;
  while (at(thread.contiguousUpTo + 1) === thread.contiguousUpTo + 1) thread.contiguousUpTo += 1;
}

function addPushed(state: MessagesState, message: Message): void {
  const thread = state.threads[message.conversation_id];
  // Before the first page is there, history will bring it; before the page's first message, the older page will.
  if (!thread || (thread.hasOlder && message.seq < firstSeq(thread))) return;
  if (thread.messages.entities[message.id]) return;
  add(thread, [message]);
}

export const messagesSlice = createSlice({
  name: "messages",
  initialState,
  reducers: {
    /** The newest page: replaces what was held. */
    newestLoaded(state, { payload }: PayloadAction<Loaded>) {
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
    newerLoaded(state, { payload }: PayloadAction<Loaded>) {
      const thread = state.threads[payload.conversation_id];
      if (!thread) return;
      add(thread, payload.messages);
      if (!payload.has_more) thread.session = Math.max(thread.session, payload.session);
    },
    olderRequested(state, { payload }: PayloadAction<string>) {
      const thread = state.threads[payload];
      if (thread?.hasOlder) thread.loadingOlder = true;
    },
    olderLoaded(state, { payload }: PayloadAction<Loaded>) {
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
      // Leaving a long thread: drop its beginning, which can be loaded again.
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
    /** The messages held of a conversation, in order. */
    selectMessages: (state, id: string): Message[] => {
      const thread = state.threads[id];
      return thread ? selectAll(thread.messages) : NONE;
    },
  },
});

export const { newestLoaded, newerLoaded, olderRequested, olderLoaded, threadFailed, threadRetried } =
  messagesSlice.actions;
export const { selectThread, selectThreadError, selectMessages } = messagesSlice.selectors;
