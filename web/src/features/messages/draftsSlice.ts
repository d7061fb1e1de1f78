import { createSlice, type PayloadAction } from "@reduxjs/toolkit";
import type { RootState } from "@/app/rootReducer";
import { messageComposed } from "./messageEvents";

const initialState: Record<string, string> = {};

/** What is written but not sent, by conversation. Only the person's own typing changes it. */
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
});

export const { draftChanged, draftsRestored } = draftsSlice.actions;
export const selectDraft = (state: RootState, id: string) => state.drafts[id] ?? "";
