/** The only module that uses sockets. */
import { nanoid } from "@reduxjs/toolkit";
import { io, type Socket } from "socket.io-client";
import { signedIn, signedOut, userIdentified } from "@/features/auth/authSlice";
import { claimsOf, TokenRefused, type TokenProvider } from "@/features/auth/tokens";
import {
  connectionDraining,
  connectionLost,
  connectionOpening,
  connectionRefused,
  selectOnline,
  sessionReady,
} from "@/features/connection/connectionSlice";
import { conversationUpdated, seenByOther, unreadUpdated } from "@/features/conversations/conversationsSlice";
import { messageReceived } from "@/features/messages/messageEvents";
import { presenceUpdated } from "@/features/presence/presenceSlice";
import { typingChanged } from "@/features/typing/typingSlice";
import type { Commands, Error as ErrorBody, Pushes } from "@/protocol";
import { backoff } from "./backoff";
import { offlineError, RequestError, timeoutError, type Request } from "./requests";
import type { StoreAccess } from "./serverEffects";
import type { Timing } from "./timing";

export interface ConnectionDependencies {
  /** The URLs of the edges, in order of preference. When one fails, the next one is tried. */
  edges: () => string[];
  token: TokenProvider;
}

type ServerEvents = { [Event in keyof Pushes]: (payload: Pushes[Event]) => void };
type ClientEvents = {
  [Event in keyof Commands]: (
    payload: Commands[Event]["payload"],
    ack: (answer: Commands[Event]["ack"]) => void,
  ) => void;
};
type WarrenSocket = Socket<ServerEvents, ClientEvents>;

/** `setTimeout` takes a signed 32-bit number of milliseconds. */
const MAX_TIMEOUT = 2 ** 31 - 1;

/** Keeps one socket to one of the edges, with a valid token, while the user is signed in. */
export function createSocketConnection(
  { dispatch, getState }: StoreAccess,
  { edges, token: provideToken }: ConnectionDependencies,
  timing: Timing,
) {
  let socket: WarrenSocket | null = null;
  let nextEdge = 0;
  /** Failed tries since the last stable connection. */
  let failures = 0;
  let readySince: number | null = null;
  let needsFreshToken = false;
  let triedFreshToken = false;
  /** The id of the latest attempt: an older one that still waits for its token must give up. */
  let currentAttempt = "";
  let connectTimer: ReturnType<typeof setTimeout> | undefined;
  let refreshTimer: ReturnType<typeof setTimeout> | undefined;

  function open(): void {
    close();
    if (getState().auth.signedIn) void connect();
  }

  function close(): void {
    currentAttempt = "";
    clearTimeout(connectTimer);
    clearTimeout(refreshTimer);
    socket?.removeAllListeners();
    socket?.disconnect();
    socket = null;
    readySince = null;
  }

  async function connect(): Promise<void> {
    const attempt = (currentAttempt = nanoid());
    const addresses = edges();
    const edge = addresses[nextEdge % addresses.length] ?? "";
    dispatch(connectionOpening({ edge }));
    let token: string;
    try {
      token = await provideToken({ identity: getState().auth.identity, fresh: needsFreshToken });
    } catch (error) {
      if (currentAttempt !== attempt) return;
      if (error instanceof TokenRefused) stopRetrying("no_token", error.message);
      else scheduleReconnect("no_token", "Sign-in failed.");
      return;
    }
    if (currentAttempt !== attempt) return;
    triedFreshToken = needsFreshToken;
    needsFreshToken = false;
    if (identifyUser(token)) openSocket(edge, token);
  }

  /** Store the user of the token. If it belongs to a different user, sign out and in again, and return false. */
  function identifyUser(token: string): boolean {
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

  function openSocket(edge: string, token: string): void {
    const opened: WarrenSocket = io(edge, {
      auth: { token },
      transports: ["websocket"],
      // This module reconnects by itself, because the next try may use another edge and another token.
      reconnection: false,
      forceNew: true,
      timeout: timing.ackTimeout,
    });
    socket = opened;
    connectTimer = setTimeout(
      () => scheduleReconnect("timeout", "The server took too long to respond."),
      timing.ackTimeout,
    );

    opened.on("session_ready", (session) => {
      clearTimeout(connectTimer);
      readySince = Date.now();
      triedFreshToken = false;
      dispatch(sessionReady(session));
    });
    opened.on("connect", () => scheduleTokenRefresh(token));
    opened.on("connect_error", (error) => handleConnectError((error as Error & { data?: Partial<ErrorBody> }).data));
    opened.on("disconnect", (reason) => scheduleReconnect(reason, "The connection was lost."));
    opened.on("server_draining", ({ reconnect_after_ms }) => {
      dispatch(connectionDraining({ closesAt: Date.now() + reconnect_after_ms }));
      clearTimeout(connectTimer);
      connectTimer = setTimeout(() => {
        nextEdge += 1;
        open();
      }, reconnect_after_ms);
    });

    opened.on("new_message", ({ message }) => dispatch(messageReceived(message)));
    opened.on("conversation_updated", ({ conversation }) => dispatch(conversationUpdated(conversation)));
    opened.on("unread_updated", (unread) => dispatch(unreadUpdated(unread)));
    opened.on("message_seen", (seen) => dispatch(seenByOther(seen)));
    opened.on("presence_updated", (presence) => dispatch(presenceUpdated(presence)));
    const typingTimers = new Map<string, ReturnType<typeof setTimeout>>();
    opened.on("typing", (typing) => {
      const key = `${typing.conversation_id} ${typing.user_id}`;
      clearTimeout(typingTimers.get(key));
      dispatch(typingChanged(typing));
      // The push that ends typing may be lost, so typing also ends by timeout.
      const expire = () => {
        if (socket === opened) dispatch(typingChanged({ ...typing, typing: false }));
      };
      if (typing.typing) typingTimers.set(key, setTimeout(expire, timing.typingTimeout));
    });
  }

  /** Handle a failed handshake. Without an error code, no server answered. */
  function handleConnectError(error: Partial<ErrorBody> | undefined): void {
    if (!error?.code) {
      scheduleReconnect("unreachable", "Can’t reach the server.");
      return;
    }
    const message = error.message ?? error.code;
    if ((error.code === "token_expired" || error.code === "unauthorized") && !triedFreshToken) {
      // The stored token may be out of date: try once with a fresh one.
      needsFreshToken = true;
      open();
    } else if (error.retryable) scheduleReconnect(error.code, message);
    else stopRetrying(error.code, message);
  }

  function stopRetrying(code: string, message: string): void {
    close();
    failures = 0;
    needsFreshToken = true;
    dispatch(connectionRefused({ code, message }));
  }

  /** Reconnect to the next edge: soon after the first failure, and with back-off after further ones. */
  function scheduleReconnect(code: string, message: string): void {
    const { retryBase, retryCap, failoverJitter, stableAfter } = timing;
    if (readySince !== null && Date.now() - readySince >= stableAfter) failures = 0;
    close();
    nextEdge += 1;
    const hasOtherEdges = edges().length > 1;
    const delay =
      failures === 0 && hasOtherEdges
        ? Math.round(Math.random() * failoverJitter)
        : backoff(Math.max(0, failures - 1), retryBase, retryCap, Math.random);
    failures += 1;
    dispatch(connectionLost({ code, message, retryAt: Date.now() + delay }));
    connectTimer = setTimeout(open, delay);
  }

  /** Skip the rest of a back-off wait: the network or the user is back. */
  function retryNow(): void {
    if (getState().connection.status !== "waiting") return;
    failures = 0;
    open();
  }

  /** Close the socket as soon as the browser goes offline, before a ping times out. */
  function handleNetworkLoss(): void {
    if (socket) scheduleReconnect("network", "You’re offline.");
  }

  /** The server closes a socket when its token expires, so send it a new token before that. */
  function scheduleTokenRefresh(token: string): void {
    const expires = claimsOf(token)?.exp;
    if (expires === undefined) return;
    const left = expires * 1000 - Date.now();
    // The server accepted the token, so a token that looks expired means that the clock of this device is wrong.
    if (left <= 0) return;
    const lead = Math.min(60_000, left / 5);
    refreshTimer = setTimeout(() => void refreshToken(), Math.min(left - lead, MAX_TIMEOUT));
  }

  async function refreshToken(): Promise<void> {
    const before = socket;
    let token: string;
    try {
      token = await provideToken({ identity: getState().auth.identity, fresh: true });
      if (socket !== before) return;
      await request("refresh_token", { token });
    } catch {
      // The server disconnects when the token expires, and the next try then uses a fresh one.
      needsFreshToken = true;
      return;
    }
    if (socket === before) scheduleTokenRefresh(token);
  }

  const request: Request = async (event, payload) => {
    const target = socket;
    if (!target?.connected || !selectOnline(getState())) throw offlineError();
    type Answer = Commands[typeof event]["ack"];
    let answer: Answer;
    try {
      // The types of socket.io-client do not support an event name that is a type parameter.
      const emitter = target.timeout(timing.ackTimeout) as unknown as {
        emitWithAck: (event: string, payload: unknown) => Promise<Answer>;
      };
      answer = await emitter.emitWithAck(event, payload);
    } catch {
      throw timeoutError();
    }
    if (answer.ok) return answer.data;
    const error = new RequestError(answer.error);
    if (error.isAuthenticationError && socket === target) {
      needsFreshToken = true;
      scheduleReconnect(error.error.code, error.message);
    }
    throw error;
  };

  return { open, close, retryNow, handleNetworkLoss, request };
}
