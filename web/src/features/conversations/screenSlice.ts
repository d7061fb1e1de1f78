import { createSlice, type PayloadAction } from "@reduxjs/toolkit";
import { messageComposed, messageReceived } from "../messages/messageEvents";
import { conversationStarted } from "./conversationsSlice";

export interface ScreenState {
  openId: string | null;
  /** The latest request to start a conversation, which opens when the ack arrives. */
  starting: { request: string; participantIds: string[] } | null;
  startError: string | null;
  /** The tab is visible and the window has focus. */
  windowFocused: boolean;
  /** The newest message of the open conversation that was in view. */
  viewedSeq: number;
  /** The "New" divider stands after this message. It stays there while the user reads. */
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
 * The open conversation. Only an action of the user changes `openId`: choosing a conversation, or starting one and
 * receiving its ack. No push changes it, so other users can never change what is on the screen.
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
    /** The user has scrolled to the end of the open conversation, which is this message. */
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
        // While the window has no focus, the divider goes before the first message that the user has not seen.
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
