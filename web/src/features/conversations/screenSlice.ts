import { createSlice, type PayloadAction } from "@reduxjs/toolkit";
import { messageComposed, messageReceived } from "../messages/messageEvents";
import { conversationStarted } from "./conversationsSlice";

export interface ScreenState {
  openId: string | null;
  /** The start of a conversation that may still take the screen: the last thing the person asked for. */
  starting: { request: string; participantIds: string[] } | null;
  startError: string | null;
  /** Tab visible and window focused. */
  windowFocused: boolean;
  /** The newest message of the open conversation that was scrolled into view. */
  viewedSeq: number;
  /** Messages after this one are new to the person: the divider's place, fixed while they read. */
  dividerAfter: number | null;
}

export const initialScreen: ScreenState = {
  openId: null,
  starting: null,
  startError: null,
  windowFocused: true,
  viewedSeq: 0,
  dividerAfter: null,
};

function open(state: ScreenState, id: string | null, dividerAfter: number | null): void {
  state.starting = null;
  state.startError = null;
  if (state.openId === id) return;
  state.openId = id;
  state.viewedSeq = 0;
  state.dividerAfter = dividerAfter;
}

/**
 * What is open. No push is answered by setting `openId`: only the person's own choice, and the ack of the start that
 * was their latest choice. That makes a hijacked screen impossible rather than unlikely.
 */
export const screenSlice = createSlice({
  name: "screen",
  initialState: initialScreen,
  reducers: {
    conversationOpened(state, { payload }: PayloadAction<{ id: string; dividerAfter: number | null }>) {
      open(state, payload.id, payload.dividerAfter);
    },
    conversationClosed(state) {
      open(state, null, null);
    },
    startRequested(state, { payload }: PayloadAction<{ request: string; participantIds: string[]; title?: string }>) {
      state.starting = { request: payload.request, participantIds: payload.participantIds };
      state.startError = null;
    },
    startFailed(state, { payload }: PayloadAction<{ request: string; message: string }>) {
      if (state.starting?.request !== payload.request) return;
      state.starting = null;
      state.startError = payload.message;
    },
    windowFocusChanged(state, { payload }: PayloadAction<boolean>) {
      state.windowFocused = payload;
    },
    /** The end of the open conversation is in view, up to this message. */
    messagesViewed(state, { payload }: PayloadAction<{ conversationId: string; seq: number }>) {
      if (payload.conversationId !== state.openId) return;
      state.viewedSeq = Math.max(state.viewedSeq, payload.seq);
    },
  },
  extraReducers: (builder) => {
    builder
      .addCase(conversationStarted, (state, { payload }) => {
        if (state.starting?.request === payload.request) open(state, payload.conversation.id, null);
      })
      .addCase(messageComposed, (state, { payload }) => {
        if (payload.conversation_id === state.openId) state.dividerAfter = null;
      })
      .addCase(messageReceived, (state, { payload }) => {
        // While the person looks elsewhere, the first new message is where they will take up reading again.
        if (state.windowFocused || payload.conversation_id !== state.openId) return;
        if (state.dividerAfter === null || state.viewedSeq > state.dividerAfter) {
          if (payload.seq > state.viewedSeq) state.dividerAfter = payload.seq - 1;
        }
      });
  },
  selectors: {
    selectScreen: (state) => state,
    selectOpenId: (state) => state.openId,
  },
});

export const {
  conversationOpened,
  conversationClosed,
  startRequested,
  startFailed,
  windowFocusChanged,
  messagesViewed,
} = screenSlice.actions;
export const { selectScreen, selectOpenId } = screenSlice.selectors;
