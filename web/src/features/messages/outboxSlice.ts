import { createEntityAdapter, createSelector, createSlice, type PayloadAction } from "@reduxjs/toolkit";
import type { Message } from "@/protocol";
import { messageAccepted, messageComposed, messageReceived, type OutgoingMessage } from "./messageEvents";
import { newerLoaded, newestLoaded, olderLoaded } from "./messagesSlice";

const adapter = createEntityAdapter<OutgoingMessage, string>({ selectId: (entry) => entry.client_message_id });
const initialState = adapter.getInitialState();

type State = typeof initialState;

/** A message that is in history has left the outbox, whichever way that became known. */
function settle(state: State, messages: Message[]): void {
  if (state.ids.length === 0) return;
  for (const message of messages) {
    const entry = state.entities[message.client_message_id];
    if (entry?.conversation_id === message.conversation_id) adapter.removeOne(state, message.client_message_id);
  }
}

const { selectAll } = adapter.getSelectors();

export const outboxSlice = createSlice({
  name: "outbox",
  initialState,
  reducers: {
    /** What an earlier visit left unsent. */
    outboxRestored(state, { payload }: PayloadAction<OutgoingMessage[]>) {
      adapter.addMany(state, payload);
    },
    messageRefused(
      state,
      { payload }: PayloadAction<{ client_message_id: string; refusal: OutgoingMessage["refusal"] }>,
    ) {
      adapter.updateOne(state, { id: payload.client_message_id, changes: { refusal: payload.refusal } });
    },
    /** The person took a refused message back, to edit or to forget it. */
    messageWithdrawn(state, { payload }: PayloadAction<string>) {
      adapter.removeOne(state, payload);
    },
  },
  extraReducers: (builder) => {
    builder
      .addCase(messageComposed, (state, { payload }) => adapter.addOne(state, payload))
      .addCase(messageAccepted, (state, { payload }) => settle(state, [payload]))
      .addCase(messageReceived, (state, { payload }) => settle(state, [payload]))
      .addCase(newestLoaded, (state, { payload }) => settle(state, payload.messages))
      .addCase(newerLoaded, (state, { payload }) => settle(state, payload.messages))
      .addCase(olderLoaded, (state, { payload }) => settle(state, payload.messages));
  },
  selectors: {
    /** The outgoing messages of a conversation, in the order written. */
    selectOutgoing: createSelector(
      [selectAll, (_: State, conversationId: string) => conversationId],
      (entries, conversationId) => entries.filter((entry) => entry.conversation_id === conversationId),
    ),
    /** The next message to send in each conversation: one at a time, so that order survives any retry. */
    selectNextToSend: createSelector([selectAll], (entries) => {
      const heads = new Map<string, OutgoingMessage>();
      for (const entry of entries)
        if (!entry.refusal && !heads.has(entry.conversation_id)) heads.set(entry.conversation_id, entry);
      return [...heads.values()];
    }),
  },
});

export const { outboxRestored, messageRefused, messageWithdrawn } = outboxSlice.actions;
export const { selectOutgoing, selectNextToSend } = outboxSlice.selectors;
