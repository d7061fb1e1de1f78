import { createEntityAdapter, createSelector, createSlice, type PayloadAction } from "@reduxjs/toolkit";
import type { Message } from "@/protocol";
import { messageAccepted, messageComposed, messageReceived, type OutgoingMessage } from "./messageEvents";
import { newerLoaded, newestLoaded, olderLoaded } from "./messagesSlice";

const adapter = createEntityAdapter<OutgoingMessage, string>({ selectId: (entry) => entry.client_message_id });
const initialState = adapter.getInitialState();

type State = typeof initialState;

/** Remove messages from the outbox that the server has stored, whether an ack, a push or the history says so. */
function removeDelivered(state: State, messages: Message[]): void {
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
    /** Add the messages that an earlier visit did not send. */
    outboxRestored(state, { payload }: PayloadAction<OutgoingMessage[]>) {
      adapter.addMany(state, payload);
    },
    messageRefused(
      state,
      { payload }: PayloadAction<{ client_message_id: string; refusal: OutgoingMessage["refusal"] }>,
    ) {
      adapter.updateOne(state, { id: payload.client_message_id, changes: { refusal: payload.refusal } });
    },
    /** Remove a refused message, because the user edits or discards it. */
    outgoingRemoved(state, { payload }: PayloadAction<string>) {
      adapter.removeOne(state, payload);
    },
  },
  extraReducers: (builder) => {
    builder
      .addCase(messageComposed, (state, { payload }) => adapter.addOne(state, payload))
      .addCase(messageAccepted, (state, { payload }) => removeDelivered(state, [payload]))
      .addCase(messageReceived, (state, { payload }) => removeDelivered(state, [payload]))
      .addCase(newestLoaded, (state, { payload }) => removeDelivered(state, payload.messages))
      .addCase(newerLoaded, (state, { payload }) => removeDelivered(state, payload.messages))
      .addCase(olderLoaded, (state, { payload }) => removeDelivered(state, payload.messages));
  },
  selectors: {
    /** The unsent messages of a conversation, in the order they were written. */
    selectOutgoing: createSelector(
      [selectAll, (_: State, conversationId: string) => conversationId],
      (entries, conversationId) => entries.filter((entry) => entry.conversation_id === conversationId),
    ),
    /** The next message to send in each conversation: only one at a time, so that retries keep the order. */
    selectNextToSend: createSelector([selectAll], (entries) => {
      const next = new Map<string, OutgoingMessage>();
      for (const entry of entries)
        if (!entry.refusal && !next.has(entry.conversation_id)) next.set(entry.conversation_id, entry);
      return [...next.values()];
    }),
  },
});

export const { outboxRestored, messageRefused, outgoingRemoved } = outboxSlice.actions;
export const { selectOutgoing, selectNextToSend } = outboxSlice.selectors;
