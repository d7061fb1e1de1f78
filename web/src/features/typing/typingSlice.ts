import { createSlice, type PayloadAction } from "@reduxjs/toolkit";
import type { TypingByOther } from "@/protocol";
import { connectionLost } from "../connection/connectionSlice";
import { messageReceived } from "../messages/messageEvents";

/** The ids of the users who are typing, by conversation. */
type State = Record<string, string[] | undefined>;

const initialState: State = {};
const NOBODY: string[] = [];

function stopTyping(state: State, conversationId: string, userId: string): void {
  const typing = state[conversationId];
  if (!typing?.includes(userId)) return;
  const rest = typing.filter((id) => id !== userId);
  if (rest.length > 0) state[conversationId] = rest;
  else Reflect.deleteProperty(state, conversationId);
}

export const typingSlice = createSlice({
  name: "typing",
  initialState,
  reducers: {
    typingChanged(state, { payload }: PayloadAction<TypingByOther>) {
      const { conversation_id, user_id, typing } = payload;
      if (!typing) stopTyping(state, conversation_id, user_id);
      else if (!state[conversation_id]?.includes(user_id)) (state[conversation_id] ??= []).push(user_id);
    },
  },
  extraReducers: (builder) => {
    builder
      .addCase(messageReceived, (state, { payload }) => stopTyping(state, payload.conversation_id, payload.sender_id))
      .addCase(connectionLost, () => ({}));
  },
  selectors: {
    /** The ids of the users who are typing in a conversation. */
    selectTyping: (state, conversationId: string) => state[conversationId] ?? NOBODY,
  },
});

export const { typingChanged } = typingSlice.actions;
export const { selectTyping } = typingSlice.selectors;
