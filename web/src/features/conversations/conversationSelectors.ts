/** Selectors that need both the conversations and the screen. */
import type { WithSlice } from "@reduxjs/toolkit";
import type { Conversation } from "@/protocol";
import { selectConversation, selectLastRead, selectUnread, type conversationsSlice } from "./conversationsSlice";
import { selectOpenId, selectScreen, type screenSlice } from "./screenSlice";

type State = WithSlice<typeof conversationsSlice> & WithSlice<typeof screenSlice>;

export const selectOpenConversation = (state: State): Conversation | undefined =>
  selectConversation(state, selectOpenId(state));

/** The number on a conversation's badge: the server's count, or 0 while the user is looking at it. */
export function selectBadge(state: State, id: string): number {
  const { openId, windowFocused } = selectScreen(state);
  return id === openId && windowFocused ? 0 : selectUnread(state, id);
}

/** The read receipt to send for the messages on screen, if the server does not have it yet. */
export function selectPendingReadReceipt(state: State): { conversation_id: string; seq: number } | null {
  const { openId, windowFocused, viewedSeq } = selectScreen(state);
  if (openId === null || !windowFocused || viewedSeq === 0 || !selectOpenConversation(state)) return null;
  return viewedSeq > selectLastRead(state, openId) ? { conversation_id: openId, seq: viewedSeq } : null;
}
