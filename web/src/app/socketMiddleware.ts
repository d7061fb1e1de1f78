/**
 * The one place that knows sockets.
 *
 * Components dispatch actions and select state. What the server must be told, and what must be fetched from it, is
 * read off the state after every action: a message in the outbox, a message on screen that counts as unread, a gap in
 * the history. Each such duty is carried out one at a time, again with back-off while it can't be, and once more after
 * every `session_ready`; so a lost connection, a lost push and a reload need no code of their own.
 */
import { nanoid, type Dispatch, type Middleware, type UnknownAction } from "@reduxjs/toolkit";
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
  selectSessions,
  sessionReady,
} from "@/features/connection/connectionSlice";
import {
  conversationsListed,
  conversationStarted,
  conversationUpdated,
  seenByOther,
  selectTotalIsStale,
  snapshotFailed,
  snapshotTaken,
  totalCounted,
  unreadUpdated,
} from "@/features/conversations/conversationsSlice";
import { selectSeenDue, startFailed, startRequested } from "@/features/conversations/screenSlice";
import { draftChanged } from "@/features/messages/draftsSlice";
import { messageAccepted, messageComposed, messageReceived } from "@/features/messages/messageEvents";
import {
  newerLoaded,
  newestLoaded,
  olderLoaded,
  selectHistoryWish,
  threadFailed,
} from "@/features/messages/messagesSlice";
import { messageRefused, outboxRestored, selectNextToSend } from "@/features/messages/outboxSlice";
import { searchFailed, usersFound } from "@/features/people/peopleSlice";
import { presenceUpdated } from "@/features/presence/presenceSlice";
import { typingChanged } from "@/features/typing/typingSlice";
import type { Commands, Error as ErrorBody, Pushes } from "@/protocol";
import { backoff } from "./backoff";
import { createDuties, type Duty } from "./duties";
import type { OutboxStorage } from "./outboxStorage";
import type { RootState } from "./rootReducer";

export interface SocketDependencies {
  /** Addresses of the edges, in order of preference: when one fails, the next is tried. */
  edges: () => string[];
  token: TokenProvider;
  outbox: OutboxStorage;
  timing?: Partial<Timing>;
}

export interface Timing {
  /** Milliseconds until a request without an ack counts as timed out, and a connection without `session_ready` as failed. */
  ack: number;
  /** First and longest wait between two tries, in milliseconds. */
  retryBase: number;
  retryCap: number;
  /** Longest wait before moving to another edge after losing one: spreads those who lost it together. */
  failover: number;
  /** How long a missing message may still come by itself before it is fetched. */
  gapPatience: number;
  /** How long the total of unread messages may disagree with its parts before it is asked for. */
  totalPatience: number;
  /** How long a search waits for the next letter. */
  searchPause: number;
  /** Typing is told at most this often, and ends after the idle time (one's own) or the silence (others'). */
  typingEvery: number;
  typingIdle: number;
  typingSilence: number;
}

const TIMING: Timing = {
  ack: 10_000,
  retryBase: 500,
  retryCap: 15_000,
  failover: 600,
  gapPatience: 150,
  totalPatience: 1_000,
  searchPause: 150,
  typingEvery: 3_000,
  typingIdle: 4_000,
  typingSilence: 7_000,
};

/** What a Warren server answers every event with. */
type Ack<Data> = { ok: true; data: Data } | { ok: false; error: ErrorBody };
type ServerEvents = { [Event in keyof Pushes]: (payload: Pushes[Event]) => void };
type ClientEvents = {
  [Event in keyof Commands]: (
    payload: Commands[Event]["payload"],
    ack: (answer: Ack<Commands[Event]["data"]>) => void,
  ) => void;
};
type WarrenSocket = Socket<ServerEvents, ClientEvents>;
type API = { dispatch: Dispatch<UnknownAction>; getState: () => RootState };

/** Raised when the server, or the lack of one, says no. */
class Refused extends Error {
  constructor(readonly error: ErrorBody) {
    super(error.message);
  }
  /** A session that ended is renewed with another token, and then the same request is worth another try. */
  get retryable(): boolean {
    return this.error.retryable || this.isAboutSession;
  }
  get isAboutSession(): boolean {
    return this.error.code === "token_expired" || this.error.code === "unauthorized";
  }
  get retryAfter(): number {
    return this.error.retry_after_ms ?? 0;
  }
}

const offline = () => new Refused({ code: "unavailable", message: "There is no connection.", retryable: true });
const unanswered = () => new Refused({ code: "timeout", message: "The server did not answer in time.", retryable: true });

export function createSocketMiddleware(dependencies: SocketDependencies): Middleware<object, RootState> {
  const timing = { ...TIMING, ...dependencies.timing };

  return (api) => {
    const connection = createConnection(api as API, dependencies, timing);
    const duties = createDuties(
      () => api.getState(),
      dutiesOf(api as API, connection.request, timing).map(whileOnline),
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
        duties.reset();
        connection.close();
      } else if (networkReturned.match(action)) connection.hurry();
      else if (networkLost.match(action)) connection.distrust();
      else if (sessionReady.match(action)) duties.reset();
      else if (startRequested.match(action)) void start(action.payload);
      else if (draftChanged.match(action)) typing.drafted(action.payload.conversationId, action.payload.text);
      else if (messageComposed.match(action)) typing.stopped(action.payload.conversation_id);

      duties.check();
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

type Request = <Event extends keyof Commands>(
  event: Event,
  payload: Commands[Event]["payload"],
) => Promise<Commands[Event]["data"]>;

/** Everything that state can oblige this client to ask of the server. */
function dutiesOf({ dispatch, getState }: API, request: Request, timing: Timing): Duty[] {
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
        await pause(timing.totalPatience);
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

const whileOnline = (duty: Duty): Duty => ({ ...duty, due: (state) => (selectOnline(state) ? duty.due(state) : []) });

/** Keeps one socket to one of the edges, with a valid token, for as long as someone is signed in. */
function createConnection({ dispatch, getState }: API, { edges, token: provide }: SocketDependencies, timing: Timing) {
  let socket: WarrenSocket | null = null;
  let nextEdge = 0;
  let failures = 0;
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
      else lose("no_token", "No server answered the sign-in.");
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
      failures = 0;
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
      const ended = () => void (socket === opened && dispatch(typingChanged({ ...typing, typing: false })));
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
    close();
    nextEdge += 1;
    const { retryBase, retryCap, failover } = timing;
    const others = edges().length > 1;
    const wait =
      failures === 0 && others
        ? Math.round(Math.random() * failover)
        : backoff(Math.max(0, failures - 1), retryBase, retryCap, Math.random);
    failures += 1;
    dispatch(connectionLost({ code, message, retryAt: Date.now() + wait }));
    timer = setTimeout(open, wait);
  }

  /** The network is back: don't sit out a long wait. */
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
    const lead = Math.min(60_000, left / 5);
    // Timers take 31 bits of milliseconds; a token that lasts for longer is looked at again then.
    refresher = setTimeout(() => void refresh(token), Math.min(Math.max(0, left - lead), 2 ** 31 - 1));
  }

  async function refresh(held: string): Promise<void> {
    const before = socket;
    let token = held;
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
    type Data = Commands[typeof event]["data"];
    let answer: Ack<Data>;
    try {
      // The library can't type an emit whose event is a type parameter.
      const emitter = asked.timeout(timing.ack) as unknown as {
        emitWithAck: (event: string, payload: unknown) => Promise<Ack<Data>>;
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

const pause = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds));
