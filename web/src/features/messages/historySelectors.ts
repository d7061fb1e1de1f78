import type { WithSlice } from "@reduxjs/toolkit";
import { selectSessions, type connectionSlice } from "../connection/connectionSlice";
import { selectUnread, type conversationsSlice } from "../conversations/conversationsSlice";
import { selectOpenConversation } from "../conversations/conversationSelectors";
import { selectOpenId, type screenSlice } from "../conversations/screenSlice";
import { firstSeq, selectThread, selectThreadError, type messagesSlice } from "./messagesSlice";

type State = WithSlice<typeof connectionSlice> &
  WithSlice<typeof conversationsSlice> &
  WithSlice<typeof messagesSlice> &
  WithSlice<typeof screenSlice>;

/** When more messages than this were missed, the newest page is loaded instead of all of them. */
const MISSED_MESSAGES = 500;

/** A page of the history to load: the newest one, the one after the loaded messages, or the one before them. */
export type HistoryPageToLoad =
  | { kind: "newest"; conversation_id: string; limit: number }
  /** `gap`: a push or a conversation header shows that messages are missing. Otherwise the session is new. */
  | { kind: "newer"; conversation_id: string; after_seq: number; gap: boolean }
  | { kind: "older"; conversation_id: string; before_seq: number };

/** The page to load next for the open conversation, if any. */
export function selectHistoryPageToLoad(state: State): HistoryPageToLoad | null {
  const conversation_id = selectOpenId(state);
  if (conversation_id === null || selectThreadError(state, conversation_id) !== undefined) return null;
  const thread = selectThread(state, conversation_id);
  const lastSeq = selectOpenConversation(state)?.last_seq ?? 0;
  if (!thread || lastSeq - thread.contiguousUpTo > MISSED_MESSAGES)
    return {
      kind: "newest",
      conversation_id,
      limit: Math.min(100, Math.max(50, selectUnread(state, conversation_id) + 10)),
    };
  const sessions = selectSessions(state);
  if (thread.session < sessions || thread.contiguousUpTo < lastSeq)
    return { kind: "newer", conversation_id, after_seq: thread.contiguousUpTo, gap: thread.session >= sessions };
  if (thread.loadingOlder && thread.hasOlder) return { kind: "older", conversation_id, before_seq: firstSeq(thread) };
  return null;
}
