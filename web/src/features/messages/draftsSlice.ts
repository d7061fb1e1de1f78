import { createSlice, type PayloadAction } from "@reduxjs/toolkit";
import { messageComposed } from "./messageEvents";

const initialState: Record<string, string> = {};

/** The unsent text in the composer, by conversation. */
export const draftsSlice = createSlice({
  name: "drafts",
  initialState,
  reducers: {
    draftChanged(state, { payload }: PayloadAction<{ conversationId: string; text: string }>) {
      if (payload.text === "") Reflect.deleteProperty(state, payload.conversationId);
      else state[payload.conversationId] = payload.text;
    },
    draftsRestored: (_, { payload }: PayloadAction<Record<string, string>>) => payload,
  },
  extraReducers: (builder) => {
    builder.addCase(messageComposed, (state, { payload }) => {
      Reflect.deleteProperty(state, payload.conversation_id);
    });
  },
  selectors: {
    selectDraft: (state, conversationId: string) => state[conversationId] ?? "",
  },
});

export const { draftChanged, draftsRestored } = draftsSlice.actions;
export const { selectDraft } = draftsSlice.selectors;
