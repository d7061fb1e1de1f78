import type { UnknownAction, WithSlice } from "@reduxjs/toolkit";
import { selectLastRead, selectUnread, type conversationsSlice } from "./conversationsSlice";
import { conversationOpened } from "./screenSlice";

/** Open a conversation, with the "New" divider before its first unread message. */
export const openConversation =
  (id: string) =>
  (dispatch: (action: UnknownAction) => unknown, getState: () => WithSlice<typeof conversationsSlice>): void => {
    const state = getState();
    const dividerAfter = selectUnread(state, id) > 0 ? selectLastRead(state, id) : null;
    dispatch(conversationOpened({ id, dividerAfter }));
  };
