import type { Dispatch } from "@reduxjs/toolkit";
import { selectSessions } from "@/features/connection/connectionSlice";
import {
  conversationsListed,
  selectTotalIsStale,
  snapshotFailed,
  snapshotTaken,
  totalCounted,
  unreadUpdated,
} from "@/features/conversations/conversationsSlice";
import { selectSeenDue } from "@/features/conversations/conversationSelectors";
import { selectHistoryWish } from "@/features/messages/historySelectors";
import { messageAccepted } from "@/features/messages/messageEvents";
import { newerLoaded, newestLoaded, olderLoaded, threadFailed } from "@/features/messages/messagesSlice";
import { messageRefused, selectNextToSend } from "@/features/messages/outboxSlice";
import { searchFailed, usersFound } from "@/features/people/peopleSlice";
import type { Commands } from "@/protocol";
import type { Duty } from "./duties";
import { offline, Refused, type Request } from "./requests";
import type { RootState } from "./rootReducer";
import type { Timing } from "./timing";

/** What a part of the middleware sees of the store. */
export interface StoreAccess {
  dispatch: Dispatch;
  getState: () => RootState;
}

/** Everything that state can oblige this client to ask of the server. */
export function obligations({ dispatch, getState }: StoreAccess, request: Request, timing: Timing): Duty[] {
  /** Pages until everything held before, and what is open, has been seen again. */
  async function takeSnapshot(): Promise<void> {
    const due = getState().conversations.snapshotsDue;
    const held = getState().conversations.ids.length;
    let cursor: string | null = null;
    let listed = 0;
    do {
      const page: Commands["list_conversations"]["data"] = await request(
        "list_conversations",
        cursor === null ? { limit: 50 } : { cursor, limit: 50 },
      );
      dispatch(conversationsListed(page));
      cursor = page.next_cursor;
      listed += page.conversations.length;
    } while (cursor !== null && (listed < held || openIsUnknown()));
    dispatch(snapshotTaken(due));
  }

  const openIsUnknown = () => {
    const { screen, conversations } = getState();
    return screen.openId !== null && !conversations.entities[screen.openId];
  };

  async function loadMoreConversations(): Promise<void> {
    const cursor = getState().conversations.nextCursor;
    if (cursor !== null) dispatch(conversationsListed(await request("list_conversations", { cursor, limit: 50 })));
  }

  async function loadHistory(): Promise<void> {
    let wish = selectHistoryWish(getState());
    if (wish?.kind === "newer" && wish.gap) {
      await pause(timing.gapPatience);
      wish = selectHistoryWish(getState());
    }
    if (!wish) return;
    const { conversation_id } = wish;
    const session = selectSessions(getState());
    const page = await request(
      "list_messages",
      wish.kind === "newest"
        ? { conversation_id, limit: wish.limit }
        : wish.kind === "newer"
          ? { conversation_id, after_seq: wish.after_seq, limit: 100 }
          : { conversation_id, before_seq: wish.before_seq, limit: 100 },
    );
    const loaded = { ...page, conversation_id, session };
    if (wish.kind === "newest") dispatch(newestLoaded(loaded));
    else if (wish.kind === "older") dispatch(olderLoaded(loaded));
    else {
      dispatch(newerLoaded(loaded));
      // The store that answered is behind what was pushed: ask again, but not at once.
      if (wish.gap && page.messages.length === 0) throw offline();
    }
  }

  async function search(): Promise<void> {
    await pause(timing.searchPause);
    const { query } = getState().people;
    if (query === null) return;
    const { users } = await request("find_users", { query: query.trim().slice(0, 100), limit: 50 });
    dispatch(usersFound({ query, users }));
  }

  return [
    {
      due: ({ conversations: { snapshotsTaken, snapshotsDue, error } }) =>
        snapshotsTaken < snapshotsDue && error === null ? ["snapshot"] : [],
      run: takeSnapshot,
      refused: (error) => dispatch(snapshotFailed(error.message)),
    },
    {
      due: ({ conversations }) => (conversations.moreWanted ? ["more-conversations"] : []),
      run: loadMoreConversations,
    },
    {
      due: (state) => (selectTotalIsStale(state) ? ["total"] : []),
      run: async () => {
        await pause(timing.totalPatience);
        if (!selectTotalIsStale(getState())) return;
        dispatch(totalCounted((await request("list_conversations", { limit: 1 })).total_unread));
        // Numbers still on their way may explain it; ask again, but ever less often.
        if (selectTotalIsStale(getState())) throw offline();
      },
    },
    {
      due: (state) => {
        const wish = selectHistoryWish(state);
        return wish ? [`history:${wish.conversation_id}`] : [];
      },
      run: loadHistory,
      refused: (error, key) =>
        dispatch(threadFailed({ conversation_id: key.slice("history:".length), message: error.message })),
    },
    {
      due: (state) => selectNextToSend(state).map(({ conversation_id }) => `send:${conversation_id}`),
      run: async (key) => {
        const entry = selectNextToSend(getState()).find(({ conversation_id }) => key === `send:${conversation_id}`);
        if (!entry) return;
        const { conversation_id, client_message_id, body } = entry;
        try {
          const { message } = await request("send_message", { conversation_id, client_message_id, body });
          dispatch(messageAccepted(message));
        } catch (error) {
          if (!(error instanceof Refused) || error.retryable) throw error;
          const { code, message } = error.error;
          dispatch(messageRefused({ client_message_id, refusal: { code, message } }));
        }
      },
    },
    {
      due: (state) => {
        const seen = selectSeenDue(state);
        return seen ? [`seen:${seen.conversation_id}`] : [];
      },
      run: async () => {
        const seen = selectSeenDue(getState());
        if (seen) dispatch(unreadUpdated(await request("message_seen", seen)));
      },
    },
    {
      due: ({ people }) => (people.query !== null && people.query !== people.answered ? ["search"] : []),
      run: search,
      refused: (error) => dispatch(searchFailed({ query: getState().people.query ?? "", message: error.message })),
    },
  ];
}

const pause = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds));
