import type { Dispatch } from "@reduxjs/toolkit";
import { selectSessions } from "@/features/connection/connectionSlice";
import {
  conversationsListed,
  snapshotFailed,
  snapshotLoaded,
  unreadUpdated,
} from "@/features/conversations/conversationsSlice";
import { selectPendingReadReceipt } from "@/features/conversations/conversationSelectors";
import { participantsFailed, participantsListed } from "@/features/conversations/participantsSlice";
import { selectHistoryPageToLoad } from "@/features/messages/historySelectors";
import { messageAccepted } from "@/features/messages/messageEvents";
import { newerLoaded, newestLoaded, olderLoaded, threadFailed } from "@/features/messages/messagesSlice";
import { messageRefused, selectNextToSend } from "@/features/messages/outboxSlice";
import { searchFailed, selectUnnamed, usersFound, usersNamed } from "@/features/people/peopleSlice";
import type { Commands } from "@/protocol";
import type { Effect } from "./effectRunner";
import { RequestError, type Request } from "./requests";
import type { RootState } from "./rootReducer";
import type { Timing } from "./timing";

/** Users whose names are asked for at once. */
const NAMES_AT_ONCE = 100;

/** The parts of the store that the middleware uses. */
export interface StoreAccess {
  dispatch: Dispatch;
  getState: () => RootState;
}

/** The effects that send requests to the server: for missing data, unsent messages and read receipts. */
export function createServerEffects({ dispatch, getState }: StoreAccess, request: Request, timing: Timing): Effect[] {
  /** Load pages until the list is as long as before and includes the open conversation. */
  async function loadConversations(): Promise<void> {
    const requested = getState().conversations.snapshotsRequested;
    const previousLength = getState().conversations.ids.length;
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
    } while (cursor !== null && (listed < previousLength || openConversationIsMissing()));
    dispatch(snapshotLoaded(requested));
  }

  const openConversationIsMissing = () => {
    const { screen, conversations } = getState();
    return screen.openId !== null && !conversations.entities[screen.openId];
  };

  async function loadMoreConversations(): Promise<void> {
    const cursor = getState().conversations.nextCursor;
    if (cursor !== null) dispatch(conversationsListed(await request("list_conversations", { cursor, limit: 50 })));
  }

  async function loadHistory(): Promise<void> {
    let target = selectHistoryPageToLoad(getState());
    if (target?.kind === "newer" && target.gap) {
      await delay(timing.gapDelay);
      target = selectHistoryPageToLoad(getState());
    }
    if (!target) return;
    const { conversation_id } = target;
    const session = selectSessions(getState());
    const page = await request(
      "list_messages",
      target.kind === "newest"
        ? { conversation_id, limit: target.limit }
        : target.kind === "newer"
          ? { conversation_id, after_seq: target.after_seq, limit: 100 }
          : { conversation_id, before_seq: target.before_seq, limit: 100 },
    );
    const loaded = { ...page, conversation_id, session };
    if (target.kind === "newest") dispatch(newestLoaded(loaded));
    else if (target.kind === "older") dispatch(olderLoaded(loaded));
    else {
      dispatch(newerLoaded(loaded));
      // The server answered from a store that lags behind its pushes: fail, so that the request is retried later.
      if (target.gap && page.messages.length === 0) throw new Error("The history is not complete yet.");
    }
  }

  async function search(): Promise<void> {
    await delay(timing.searchDebounce);
    const { query } = getState().people;
    if (query === null) return;
    const { users } = await request("find_users", { query: query.trim().slice(0, 100), limit: 50 });
    dispatch(usersFound({ query, users }));
  }

  async function loadNames(): Promise<void> {
    const asked = selectUnnamed(getState()).slice(0, NAMES_AT_ONCE);
    const { users } = await request("get_users", { user_ids: asked });
    dispatch(usersNamed({ asked, users }));
  }

  async function loadParticipants(): Promise<void> {
    const { shownFor: conversation_id, nextCursor: cursor } = getState().participants;
    if (conversation_id === null) return;
    const page = await request("list_participants", {
      conversation_id,
      ...(cursor === null ? {} : { cursor }),
      limit: 50,
    });
    dispatch(participantsListed({ ...page, conversation_id }));
  }

  return [
    {
      pending: ({ conversations: { snapshotsLoaded, snapshotsRequested, error } }) =>
        snapshotsLoaded < snapshotsRequested && error === null ? ["snapshot"] : [],
      run: loadConversations,
      onFailure: (error) => dispatch(snapshotFailed(error.message)),
    },
    {
      pending: ({ conversations }) => (conversations.loadingMore ? ["more-conversations"] : []),
      run: loadMoreConversations,
    },
    {
      pending: (state) => {
        const target = selectHistoryPageToLoad(state);
        return target ? [`history:${target.conversation_id}`] : [];
      },
      run: loadHistory,
      onFailure: (error, key) =>
        dispatch(threadFailed({ conversation_id: key.slice("history:".length), message: error.message })),
    },
    {
      pending: (state) => selectNextToSend(state).map(({ conversation_id }) => `send:${conversation_id}`),
      run: async (key) => {
        const entry = selectNextToSend(getState()).find(({ conversation_id }) => key === `send:${conversation_id}`);
        if (!entry) return;
        const { conversation_id, client_message_id, body } = entry;
        try {
          const { message } = await request("send_message", { conversation_id, client_message_id, body });
          dispatch(messageAccepted(message));
        } catch (error) {
          if (!(error instanceof RequestError) || error.retryable) throw error;
          const { code, message } = error.error;
          dispatch(messageRefused({ client_message_id, refusal: { code, message } }));
        }
      },
    },
    {
      pending: (state) => {
        const receipt = selectPendingReadReceipt(state);
        return receipt ? [`seen:${receipt.conversation_id}`] : [];
      },
      run: async () => {
        const receipt = selectPendingReadReceipt(getState());
        if (receipt) dispatch(unreadUpdated(await request("message_seen", receipt)));
      },
    },
    {
      pending: ({ people }) => (people.query !== null && people.query !== people.answeredQuery ? ["search"] : []),
      run: search,
      onFailure: (error) => dispatch(searchFailed({ query: getState().people.query ?? "", message: error.message })),
    },
    {
      // After the list, which names most people already.
      pending: (state) => (state.conversations.snapshotsLoaded > 0 && selectUnnamed(state).length > 0 ? ["names"] : []),
      run: loadNames,
    },
    {
      pending: ({ participants }) => (participants.requested ? [`participants:${participants.shownFor}`] : []),
      run: loadParticipants,
      onFailure: (error) => dispatch(participantsFailed(error.message)),
    },
  ];
}

const delay = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds));
