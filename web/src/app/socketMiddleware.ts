/**
 * The only module that uses sockets.
 *
 * Components dispatch actions and select state. After every action, the middleware derives from the state what to send
 * to the server and what to fetch from it: a message in the outbox, a read receipt, a gap in the history. Each of these
 * effects runs one at a time, is retried with back-off, and is tried again after every `session_ready`. A lost
 * connection, a lost push and a reload therefore need no code of their own.
 */
import { nanoid, type Middleware } from "@reduxjs/toolkit";
import { io, type Socket } from "socket.io-client";
import { signedIn, signedOut, userIdentified } from "@/features/auth/authSlice";
import { claimsOf, TokenRefused, type TokenProvider } from "@/features/auth/tokens";
import {
  connectionDraining,
  connectionLost,
  connectionOpening,
  connectionRefused,
  networkLost,
  networkReturned,
  retryRequested,
  selectOnline,
  sessionReady,
} from "@/features/connection/connectionSlice";
import {
  conversationStarted,
  conversationUpdated,
  seenByOther,
  unreadUpdated,
} from "@/features/conversations/conversationsSlice";
import { attentionChanged, startFailed, startRequested } from "@/features/conversations/screenSlice";
import { draftChanged } from "@/features/messages/draftsSlice";
import { messageComposed, messageReceived } from "@/features/messages/messageEvents";
import { outboxRestored } from "@/features/messages/outboxSlice";
import { presenceUpdated } from "@/features/presence/presenceSlice";
import { typingChanged } from "@/features/typing/typingSlice";
import type { Commands, Error as ErrorBody, Pushes } from "@/protocol";
import { backoff } from "./backoff";
import { createEffectRunner, type Effect } from "./effectRunner";
import { offline, Refused, unanswered, type Request } from "./requests";
import type { OutboxStorage } from "./outboxStorage";
import type { RootState } from "./rootReducer";
import { createServerEffects, type StoreAccess } from "./serverEffects";
import { TIMING, type Timing } from "./timing";

export interface SocketDependencies {
  /** Addresses of the edges, in order of preference: when one fails, the next is tried. */
  edges: () => string[];
  token: TokenProvider;
  outbox: OutboxStorage;
  timing?: Partial<Timing>;
}

type ServerEvents = { [Event in keyof Pushes]: (payload: Pushes[Event]) => void };
type ClientEvents = {
  [Event in keyof Commands]: (
    payload: Commands[Event]["payload"],
    ack: (answer: Commands[Event]["ack"]) => void,
  ) => void;
};
type WarrenSocket = Socket<ServerEvents, ClientEvents>;

export function createSocketMiddleware(dependencies: SocketDependencies): Middleware<unknown, RootState> {
  const timing = { ...TIMING, ...dependencies.timing };

  return (api) => {
    const connection = createConnection(api as StoreAccess, dependencies, timing);
    const effects = createEffectRunner(
      () => api.getState(),
      createServerEffects(api as StoreAccess, connection.request, timing).map(whenOnline),
      timing,
    );
    const typing = createTyping(connection.request, timing);
    let saved = api.getState().outbox;

    return (next) => (action) => {
      const result = next(action);
      const state = api.getState();

      if (state.outbox !== saved && state.auth.user) {
        dependencies.outbox.save(state.auth.user.id, saved.entities, state.outbox.entities);
        saved = state.outbox;
      }
      if (userIdentified.match(action)) restoreOutbox(action.payload.id);
      else if (signedIn.match(action) || retryRequested.match(action)) connection.open();
      else if (signedOut.match(action)) {
        saved = state.outbox;
        typing.reset();
        effects.reset();
        connection.close();
      } else if (networkReturned.match(action) || (attentionChanged.match(action) && action.payload))
        connection.hurry();
      else if (networkLost.match(action)) connection.distrust();
      else if (sessionReady.match(action)) effects.reset();
      else if (startRequested.match(action)) void start(action.payload);
      else if (draftChanged.match(action)) typing.drafted(action.payload.conversationId, action.payload.text);
      else if (messageComposed.match(action)) typing.stopped(action.payload.conversation_id);

      effects.runPending();
      return result;
    };

    /** What an earlier visit could not send goes out in this one, under the same ids. */
    function restoreOutbox(userId: string): void {
      const entries = dependencies.outbox.load(userId);
      if (entries.length > 0) api.dispatch(outboxRestored(entries));
    }

    async function start({ request, participantIds, title }: ReturnType<typeof startRequested>["payload"]) {
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

const whenOnline = (effect: Effect): Effect => ({
  ...effect,
  pending: (state) => (selectOnline(state) ? effect.pending(state) : []),
});

/** Keeps one socket to one of the edges, with a valid token, for as long as someone is signed in. */
function createConnection(
  { dispatch, getState }: StoreAccess,
  { edges, token: provide }: SocketDependencies,
  timing: Timing,
) {
  let socket: WarrenSocket | null = null;
  let nextEdge = 0;
  /** Tries that failed since a connection last held. */
  let failures = 0;
  let readySince: number | null = null;
  let freshToken = false;
  let freshTried = false;
  /** Tells a try that is still waiting for its token that another one has taken over. */
  let current = "";
  let timer: ReturnType<typeof setTimeout> | undefined;
  let refresher: ReturnType<typeof setTimeout> | undefined;

  function open(): void {
    close();
    if (getState().auth.signedIn) void connect();
  }

  function close(): void {
    current = "";
    clearTimeout(timer);
    clearTimeout(refresher);
    socket?.removeAllListeners();
    socket?.disconnect();
    socket = null;
    readySince = null;
  }

  async function connect(): Promise<void> {
    const attempt = (current = nanoid());
    const addresses = edges();
    const edge = addresses[nextEdge % addresses.length] ?? "";
    dispatch(connectionOpening({ edge }));
    let token: string;
    try {
      token = await provide({ identity: getState().auth.identity, fresh: freshToken });
    } catch (error) {
      if (current !== attempt) return;
      if (error instanceof TokenRefused) refuse("no_token", error.message);
      else lose("no_token", "Signing in did not work.");
      return;
    }
    if (current !== attempt) return;
    freshTried = freshToken;
    freshToken = false;
    if (identify(token)) attach(edge, token);
  }

  /** Note whose token this is. When the host application has changed users, everything begins anew instead. */
  function identify(token: string): boolean {
    const claims = claimsOf(token);
    const { user, identity } = getState().auth;
    if (!claims || user?.id === claims.sub) return true;
    if (user) {
      dispatch(signedOut());
      dispatch(signedIn(identity));
      return false;
    }
    dispatch(userIdentified({ id: claims.sub, name: claims.name ?? claims.sub, picture: claims.picture ?? null }));
    return true;
  }

  function attach(edge: string, token: string): void {
    const opened: WarrenSocket = io(edge, {
      auth: { token },
      transports: ["websocket"],
      // Trying again is done here, so that a try can go to another edge with another token.
      reconnection: false,
      forceNew: true,
      timeout: timing.ack,
    });
    socket = opened;
    timer = setTimeout(() => lose("timeout", "The server took too long to answer."), timing.ack);

    opened.on("session_ready", (session) => {
      clearTimeout(timer);
      readySince = Date.now();
      freshTried = false;
      dispatch(sessionReady(session));
    });
    opened.on("connect", () => refreshBeforeExpiry(token));
    opened.on("connect_error", (error) => refusedBy((error as Error & { data?: Partial<ErrorBody> }).data));
    opened.on("disconnect", (reason) => lose(reason, "The connection was lost."));
    opened.on("server_draining", ({ reconnect_after_ms }) => {
      dispatch(connectionDraining({ closesAt: Date.now() + reconnect_after_ms }));
      clearTimeout(timer);
      timer = setTimeout(() => {
        nextEdge += 1;
        open();
      }, reconnect_after_ms);
    });

    opened.on("new_message", ({ message }) => dispatch(messageReceived(message)));
    opened.on("conversation_updated", ({ conversation }) => dispatch(conversationUpdated(conversation)));
    opened.on("unread_updated", (unread) => dispatch(unreadUpdated(unread)));
    opened.on("message_seen", (seen) => dispatch(seenByOther(seen)));
    opened.on("presence_updated", (presence) => dispatch(presenceUpdated(presence)));
    const silences = new Map<string, ReturnType<typeof setTimeout>>();
    opened.on("typing", (typing) => {
      const key = `${typing.conversation_id} ${typing.user_id}`;
      clearTimeout(silences.get(key));
      dispatch(typingChanged(typing));
      // "Stopped" is best effort: after a silence, take it as said.
      const ended = () => {
        if (socket === opened) dispatch(typingChanged({ ...typing, typing: false }));
      };
      if (typing.typing) silences.set(key, setTimeout(ended, timing.typingSilence));
    });
  }

  /** The handshake failed: by the server's word, or for want of a server. */
  function refusedBy(error: Partial<ErrorBody> | undefined): void {
    if (!error?.code) {
      lose("unreachable", "The server can't be reached.");
      return;
    }
    const message = error.message ?? error.code;
    if ((error.code === "token_expired" || error.code === "unauthorized") && !freshTried) {
      // A kept token may have outlived its welcome: one try with a fresh one decides.
      freshToken = true;
      open();
    } else if (error.retryable) lose(error.code, message);
    else refuse(error.code, message);
  }

  function refuse(code: string, message: string): void {
    close();
    failures = 0;
    freshToken = true;
    dispatch(connectionRefused({ code, message }));
  }

  /** Try again: soon and elsewhere at first, ever later when that fails too. */
  function lose(code: string, message: string): void {
    const { retryBase, retryCap, failover, steady } = timing;
    if (readySince !== null && Date.now() - readySince >= steady) failures = 0;
    close();
    nextEdge += 1;
    const others = edges().length > 1;
    const wait =
      failures === 0 && others
        ? Math.round(Math.random() * failover)
        : backoff(Math.max(0, failures - 1), retryBase, retryCap, Math.random);
    failures += 1;
    dispatch(connectionLost({ code, message, retryAt: Date.now() + wait }));
    timer = setTimeout(open, wait);
  }

  /** The network is back, or the person: don't sit out a long wait. */
  function hurry(): void {
    if (getState().connection.status !== "waiting") return;
    failures = 0;
    open();
  }

  /** The browser says that the network is gone: find out now rather than at the next missed ping. */
  function distrust(): void {
    if (socket) lose("network", "This device is offline.");
  }

  /** A socket lives as long as its token: hand in the next one before that. */
  function refreshBeforeExpiry(token: string): void {
    const expires = claimsOf(token)?.exp;
    if (expires === undefined) return;
    const left = expires * 1000 - Date.now();
    // By this device's clock it is over already: the clock is wrong, and the server decides.
    if (left <= 0) return;
    const lead = Math.min(60_000, left / 5);
    // Timers take 31 bits of milliseconds; a token that lasts for longer is looked at again then.
    refresher = setTimeout(() => void refresh(), Math.min(left - lead, 2 ** 31 - 1));
  }

  async function refresh(): Promise<void> {
    const before = socket;
    let token: string;
    try {
      token = await provide({ identity: getState().auth.identity, fresh: true });
      if (socket !== before) return;
      await request("refresh_token", { token });
    } catch {
      // Out of luck: the server will disconnect at expiry, and the next try brings a fresh token.
      freshToken = true;
      return;
    }
    if (socket === before) refreshBeforeExpiry(token);
  }

  const request: Request = async (event, payload) => {
    const asked = socket;
    if (!asked?.connected || !selectOnline(getState())) throw offline();
    type Answer = Commands[typeof event]["ack"];
    let answer: Answer;
    try {
      // The library can't type an emit whose event is a type parameter.
      const emitter = asked.timeout(timing.ack) as unknown as {
        emitWithAck: (event: string, payload: unknown) => Promise<Answer>;
      };
      answer = await emitter.emitWithAck(event, payload);
    } catch {
      throw unanswered();
    }
    if (answer.ok) return answer.data;
    const refusal = new Refused(answer.error);
    if (refusal.isAboutSession && socket === asked) {
      freshToken = true;
      lose(refusal.error.code, refusal.message);
    }
    throw refusal;
  };

  return { open, close, hurry, distrust, request };
}

/** Tells others about one's own typing, sparingly; best effort, so nothing is ever retried. */
function createTyping(request: Request, timing: Timing) {
  let told: { conversationId: string; at: number } | null = null;
  let idle: ReturnType<typeof setTimeout> | undefined;

  const tell = (conversation_id: string, typing: boolean) =>
    void request("typing", { conversation_id, typing }).catch(() => undefined);

  function stopped(conversationId: string): void {
    if (told?.conversationId !== conversationId) return;
    reset();
    tell(conversationId, false);
  }

  function drafted(conversationId: string, text: string): void {
    if (text.trim() === "") {
      stopped(conversationId);
      return;
    }
    if (told && told.conversationId !== conversationId) stopped(told.conversationId);
    clearTimeout(idle);
    idle = setTimeout(() => stopped(conversationId), timing.typingIdle);
    if (told && Date.now() - told.at < timing.typingEvery) return;
    told = { conversationId, at: Date.now() };
    tell(conversationId, true);
  }

  function reset(): void {
    clearTimeout(idle);
    told = null;
  }

  return { drafted, stopped, reset };
}
