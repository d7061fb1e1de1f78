import { createSlice, isAnyOf, type PayloadAction } from "@reduxjs/toolkit";
import type { ParticipantPage } from "@/protocol";
import { conversationStarted } from "./conversationsSlice";
import { conversationClosed, conversationOpened } from "./screenSlice";

export interface ParticipantsState {
  /** The conversation whose participants are shown; null while the list is closed. */
  shownFor: string | null;
  /** The participants that are loaded, in the order in which they joined. */
  ids: string[];
  /** Where the next page begins; null at the beginning and at the end. */
  nextCursor: string | null;
  /** Whether a page is to be loaded. */
  requested: boolean;
  error: string | null;
}

const closed: ParticipantsState = { shownFor: null, ids: [], nextCursor: null, requested: false, error: null };

/** The list of a conversation's participants, page by page. It is loaded anew each time that it is opened. */
export const participantsSlice = createSlice({
  name: "participants",
  initialState: closed,
  reducers: {
    participantsOpened: (_, { payload }: PayloadAction<string>) => ({ ...closed, shownFor: payload, requested: true }),
    participantsClosed: () => closed,
    moreParticipantsRequested(state) {
      state.requested = state.shownFor !== null;
      state.error = null;
    },
    participantsListed(state, { payload }: PayloadAction<ParticipantPage & { conversation_id: string }>) {
      if (payload.conversation_id !== state.shownFor) return;
      state.ids = [...new Set([...state.ids, ...payload.participants.map(({ user }) => user.id)])];
      state.nextCursor = payload.next_cursor;
      state.requested = false;
    },
    participantsFailed(state, { payload }: PayloadAction<string>) {
      state.requested = false;
      state.error = payload;
    },
  },
  extraReducers: (builder) => {
    builder.addMatcher(isAnyOf(conversationOpened, conversationClosed, conversationStarted), () => closed);
  },
  selectors: {
    selectParticipants: (state) => state,
  },
});

export const {
  participantsOpened,
  participantsClosed,
  moreParticipantsRequested,
  participantsListed,
  participantsFailed,
} = participantsSlice.actions;
export const { selectParticipants } = participantsSlice.selectors;
