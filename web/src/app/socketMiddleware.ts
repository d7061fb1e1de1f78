/**
 * Connects the store to the server.
 *
 * Components dispatch actions and select state. After every action, the middleware derives from the state what to send
 * to the server and what to fetch from it: a message in the outbox, a read receipt, a gap in the history. Each of these
 * effects runs one at a time, is retried with back-off, and is tried again after every `session_ready`. A lost
 * connection, a lost push and a reload therefore need no code of their own.
 */
import type { Middleware } from "@reduxjs/toolkit";
import { signedIn, signedOut, userIdentified } from "@/features/auth/authSlice";
import {
  networkLost,
  networkReturned,
  retryRequested,
  selectOnline,
  sessionReady,
} from "@/features/connection/connectionSlice";
import { conversationStarted } from "@/features/conversations/conversationsSlice";
import { windowFocusChanged, startFailed, startRequested } from "@/features/conversations/screenSlice";
import { draftChanged } from "@/features/messages/draftsSlice";
import { messageComposed } from "@/features/messages/messageEvents";
import { outboxRestored } from "@/features/messages/outboxSlice";
import { createEffectRunner, type Effect } from "./effectRunner";
import type { OutboxStorage } from "./outboxStorage";
import type { RootState } from "./rootReducer";
import { createServerEffects, type StoreAccess } from "./serverEffects";
import { createSocketConnection, type ConnectionDependencies } from "./socketConnection";
import { TIMING, type Timing } from "./timing";
import { createTypingNotifier } from "./typingNotifier";

export interface SocketDependencies extends ConnectionDependencies {
  outbox: OutboxStorage;
  timing?: Partial<Timing>;
}

export function createSocketMiddleware(dependencies: SocketDependencies): Middleware<unknown, RootState> {
  const timing = { ...TIMING, ...dependencies.timing };

  return (api) => {
    const connection = createSocketConnection(api as StoreAccess, dependencies, timing);
    const effects = createEffectRunner(
      () => api.getState(),
      createServerEffects(api as StoreAccess, connection.request, timing).map(whenOnline),
      timing,
    );
    const typing = createTypingNotifier(connection.request, timing);
    let savedOutbox = api.getState().outbox;

    return (next) => (action) => {
      const result = next(action);
      const state = api.getState();

      if (state.outbox !== savedOutbox && state.auth.user) {
        dependencies.outbox.save(state.auth.user.id, savedOutbox.entities, state.outbox.entities);
        savedOutbox = state.outbox;
      }
      if (userIdentified.match(action)) restoreOutbox(action.payload.id);
      else if (signedIn.match(action) || retryRequested.match(action)) connection.open();
      else if (signedOut.match(action)) {
        savedOutbox = state.outbox;
        typing.reset();
        effects.reset();
        connection.close();
      } else if (networkReturned.match(action) || (windowFocusChanged.match(action) && action.payload))
        connection.retryNow();
      else if (networkLost.match(action)) connection.handleNetworkLoss();
      else if (sessionReady.match(action)) effects.reset();
      else if (startRequested.match(action)) void startConversation(action.payload);
      else if (draftChanged.match(action)) typing.draftChanged(action.payload.conversationId, action.payload.text);
      else if (messageComposed.match(action)) typing.stop(action.payload.conversation_id);

      effects.runPending();
      return result;
    };

    /** Load the messages that an earlier visit did not send; they keep their ids. */
    function restoreOutbox(userId: string): void {
      const entries = dependencies.outbox.load(userId);
      if (entries.length > 0) api.dispatch(outboxRestored(entries));
    }

    async function startConversation({
      request,
      participantIds,
      title,
    }: ReturnType<typeof startRequested>["payload"]): Promise<void> {
      try {
        const { conversation } = await connection.request("start_conversation", {
          participant_ids: participantIds,
          ...(title ? { title } : {}),
        });
        api.dispatch(conversationStarted({ request, conversation }));
      } catch (error) {
        api.dispatch(startFailed({ request, message: (error as Error).message }));
      }
    }
  };
}

/** Let an effect run only while requests can be sent. */
const whenOnline = (effect: Effect): Effect => ({
  ...effect,
  pending: (state) => (selectOnline(state) ? effect.pending(state) : []),
});
