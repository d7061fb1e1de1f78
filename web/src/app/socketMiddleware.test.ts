import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { outboxInMemory } from "../../test/builders";
import { FakeBackend } from "../../test/fakeBackend";
import { FakeEdge, tokenFor } from "../../test/fakeWarren";
import { signedIn, signedOut } from "@/features/auth/authSlice";
import { TokenRefused, type TokenProvider } from "@/features/auth/tokens";
import { networkLost, retryRequested, selectConnection } from "@/features/connection/connectionSlice";
import { selectConversationIds, selectTotalUnread, selectUnread } from "@/features/conversations/conversationsSlice";
import { openConversation } from "@/features/conversations/openConversation";
import {
  moreParticipantsRequested,
  participantsOpened,
  selectParticipants,
} from "@/features/conversations/participantsSlice";
import {
  conversationClosed,
  windowFocusChanged,
  messagesViewed,
  startRequested,
} from "@/features/conversations/screenSlice";
import { draftChanged } from "@/features/messages/draftsSlice";
import { messageComposed } from "@/features/messages/messageEvents";
import { olderRequested, selectMessages } from "@/features/messages/messagesSlice";
import { selectOutgoing } from "@/features/messages/outboxSlice";
import { searchChanged, selectPeople, selectPerson } from "@/features/people/peopleSlice";
import { selectPresence } from "@/features/presence/presenceSlice";
import { selectTyping } from "@/features/typing/typingSlice";
import type { OutboxStorage } from "./outboxStorage";
import type { Timing } from "./timing";
import { makeStore, type AppStore } from "./store";

/** Short waits, because these tests use real sockets. */
const TIMING: Partial<Timing> = {
  ackTimeout: 400,
  retryBase: 20,
  retryCap: 100,
  failoverJitter: 20,
  gapDelay: 20,
  searchDebounce: 10,
  typingTimeout: 80,
};
const ME = "me";
const YOU = "you";

let backend: FakeBackend;
let edge: FakeEdge;
let opened: { close: () => void }[];

beforeEach(async () => {
  backend = new FakeBackend();
  backend.addUser(ME);
  backend.addUser(YOU);
  edge = await FakeEdge.open(backend);
  opened = [];
});

afterEach(async () => {
  for (const { close } of opened) close();
  for (const each of [...backend.edges]) await each.close();
});

interface Options {
  user?: string;
  edges?: string[];
  token?: TokenProvider;
  outbox?: OutboxStorage;
}

function open({ user = ME, edges = [edge.url], token, outbox = outboxInMemory() }: Options = {}): AppStore {
  const store = makeStore({
    edges: () => edges,
    token: token ?? (() => Promise.resolve(tokenFor(user))),
    outbox,
    timing: TIMING,
  });
  opened.push({ close: () => store.dispatch(signedOut()) });
  store.dispatch(signedIn({ user_id: user, name: user }));
  return store;
}

const until = (check: () => void) => vi.waitFor(check, { timeout: 4000, interval: 10 });
const status = (store: AppStore) => selectConnection(store.getState()).status;
const bodies = (store: AppStore, id = "c1") => selectMessages(store.getState(), id).map(({ body }) => body);
const seqs = (store: AppStore, id = "c1") => selectMessages(store.getState(), id).map(({ seq }) => seq);
const outgoing = (store: AppStore, id = "c1") => selectOutgoing(store.getState(), id);
const unread = (store: AppStore, id = "c1") => selectUnread(store.getState(), id);

/** A client that has `c1` open, with `count` messages in it. */
async function reading(count: number, options: Options = {}): Promise<AppStore> {
  const conversation = backend.start(YOU, [ME]);
  for (let index = 1; index <= count; index += 1) backend.store(conversation, YOU, `${index}`);
  const store = open(options);
  await until(() => expect(selectConversationIds(store.getState())).toContain("c1"));
  store.dispatch(openConversation("c1"));
  await until(() => expect(seqs(store).at(-1)).toBe(count));
  return store;
}

const c1 = () => {
  const conversation = backend.conversations.get("c1");
  if (!conversation) throw new Error("c1 was not started");
  return conversation;
};

describe("connecting", () => {
  it("loads a snapshot on every session_ready", async () => {
    const store = await reading(2);
    // Given lost pushes
    edge.dropPushes("new_message", "unread_updated", "conversation_updated");
    backend.sendMessage(c1(), YOU, "3");
    // When the edge sends session_ready again
    edge.announceSession(ME);
    // Then the client has the same data as the server
    await until(() => expect(bodies(store)).toEqual(["1", "2", "3"]));
    expect(unread(store)).toBe(3);
    expect(selectTotalUnread(store.getState())).toBe(3);
  });

  it("connects to another edge when one is lost, and misses no message", async () => {
    const other = await FakeEdge.open(backend);
    const store = await reading(1, { edges: [edge.url, other.url] });
    await edge.close();
    backend.sendMessage(c1(), YOU, "2");
    await until(() => expect(selectConnection(store.getState()).edgeId).toBe(other.url));
    await until(() => expect(bodies(store)).toEqual(["1", "2"]));
  });

  it("moves away from a draining edge at the announced time, and sends messages until then", async () => {
    const other = await FakeEdge.open(backend);
    const store = await reading(1, { edges: [edge.url, other.url] });
    edge.push(ME, "server_draining", { reconnect_after_ms: 150 });
    await until(() => expect(status(store)).toBe("draining"));
    store.dispatch(messageComposed("c1", "still here"));
    await until(() => expect(outgoing(store)).toEqual([]));
    await until(() => expect(selectConnection(store.getState()).edgeId).toBe(other.url));
    expect(status(store)).toBe("ready");
  });

  it("stops after a final refusal, shows the reason, and connects on a manual retry", async () => {
    edge.refuseConnections("not_verified");
    const store = open();
    await until(() => expect(status(store)).toBe("refused"));
    expect(selectConnection(store.getState()).reason?.message).toBe("Refused: not_verified.");
    edge.refuseConnections(null);
    store.dispatch(retryRequested());
    await until(() => expect(status(store)).toBe("ready"));
  });

  it("keeps trying after a temporary refusal", async () => {
    edge.refuseConnections("too_many_connections", true);
    const store = open();
    await until(() => expect(edge.tokens.length).toBeGreaterThan(2));
    edge.refuseConnections(null);
    await until(() => expect(status(store)).toBe("ready"));
  });

  it("asks once for a fresh token when the token has expired", async () => {
    const freshFlags: boolean[] = [];
    const token: TokenProvider = ({ fresh }) => {
      freshFlags.push(fresh);
      return Promise.resolve(tokenFor(ME, ME, fresh ? 3600 : -5));
    };
    const store = open({ token });
    await until(() => expect(status(store)).toBe("ready"));
    expect(freshFlags).toEqual([false, true]);
  });

  it("stops when there is no token", async () => {
    const store = open({ token: () => Promise.reject(new TokenRefused("Not today.")) });
    await until(() => expect(status(store)).toBe("refused"));
  });

  it("refreshes the token before it expires", async () => {
    const tokens = [tokenFor(ME, ME, 2), tokenFor(ME, ME, 3600)];
    const store = open({ token: () => Promise.resolve(tokens.shift() ?? "") });
    await until(() => expect(edge.payloads("refresh_token")).toHaveLength(1));
    expect(status(store)).toBe("ready");
  });

  it("resets the state when the token belongs to another user", async () => {
    let user = ME;
    const store = await reading(1, { token: () => Promise.resolve(tokenFor(user)) });
    user = "someone-else";
    store.dispatch(networkLost());
    await until(() => expect(edge.socketsOf("someone-else")).toHaveLength(1));
    await until(() => expect(status(store)).toBe("ready"));
    expect(store.getState().auth.user?.id).toBe("someone-else");
    expect(selectConversationIds(store.getState())).toEqual([]);
    expect(seqs(store)).toEqual([]);
  });

  it("clears the state on sign-out", async () => {
    const store = await reading(3);
    store.dispatch(signedOut());
    expect(selectConversationIds(store.getState())).toEqual([]);
    await until(() => expect(edge.socketsOf(ME)).toEqual([]));
  });
});

describe("sending", () => {
  it("shows a message at once, and in its final place after the ack", async () => {
    const store = await reading(1);
    store.dispatch(messageComposed("c1", "hello"));
    expect(outgoing(store)).toHaveLength(1);
    await until(() => expect(bodies(store)).toEqual(["1", "hello"]));
    expect(outgoing(store)).toEqual([]);
  });

  it.each([
    "drop",
    "store-and-drop",
    { code: "unavailable", retryable: true },
    { code: "timeout", retryable: true },
  ] as const)("retries with the same id after %j, and stores each message once and in order", async (fault) => {
    const store = await reading(1);
    edge.failNext("send_message", fault);
    store.dispatch(messageComposed("c1", "first"));
    store.dispatch(messageComposed("c1", "second"));
    await until(() => expect(bodies(store)).toEqual(["1", "first", "second"]));
    expect(c1().messages.map(({ body }) => body)).toEqual(["1", "first", "second"]);
    expect(new Set(edge.payloads("send_message").map((payload) => payload.client_message_id)).size).toBe(2);
  });

  it("sends a message after a reload, when the connection is back", async () => {
    const outbox = outboxInMemory();
    const before = await reading(1, { outbox });
    // Given a message written while the edge is down
    const { url } = edge;
    await edge.close();
    before.dispatch(messageComposed("c1", "kept"));
    const id = outgoing(before)[0]?.client_message_id;
    // When the page is reloaded and the edge comes back
    before.dispatch(signedOut());
    const after = open({ outbox, edges: [url] });
    await until(() => expect(outgoing(after)).toHaveLength(1));
    edge = await FakeEdge.open(backend, Number(new URL(url).port));
    // Then the message is delivered with its original id
    await until(() => expect(c1().messages.map(({ body }) => body)).toEqual(["1", "kept"]));
    expect(c1().messages[1]?.client_message_id).toBe(id);
    await until(() => expect(outbox.load(ME)).toEqual([]));
  });

  it("shows why a message was refused, and sends the next one", async () => {
    const store = await reading(1);
    edge.failNext("send_message", { code: "forbidden", retryable: false });
    store.dispatch(messageComposed("c1", "insult"));
    store.dispatch(messageComposed("c1", "apology"));
    await until(() => expect(bodies(store)).toEqual(["1", "apology"]));
    expect(outgoing(store)).toMatchObject([{ body: "insult", refusal: { code: "forbidden" } }]);
  });
});

describe("reading", () => {
  it("sends a read receipt only while the window has focus", async () => {
    const store = await reading(2);
    store.dispatch(windowFocusChanged(false));
    store.dispatch(messagesViewed({ conversationId: "c1", seq: 2 }));
    expect(unread(store)).toBe(2);
    store.dispatch(windowFocusChanged(true));
    await until(() => expect(unread(store)).toBe(0));
    expect(edge.payloads("message_seen")).toEqual([{ conversation_id: "c1", seq: 2 }]);
  });

  it("retries a read receipt that failed", async () => {
    const store = await reading(1);
    edge.failNext("message_seen", "drop", { code: "unavailable", retryable: true });
    store.dispatch(messagesViewed({ conversationId: "c1", seq: 1 }));
    await until(() => expect(unread(store)).toBe(0));
  });

  it("loads a message whose push was lost", async () => {
    const store = await reading(1);
    edge.dropPushes("new_message");
    backend.sendMessage(c1(), YOU, "2");
    edge.dropPushes();
    backend.sendMessage(c1(), YOU, "3");
    await until(() => expect(seqs(store)).toEqual([1, 2, 3]));
  });

  it("loads older pages back to the first message", async () => {
    const store = await reading(230);
    expect(seqs(store)).toHaveLength(100);
    store.dispatch(olderRequested("c1"));
    await until(() => expect(seqs(store)).toHaveLength(200));
    store.dispatch(olderRequested("c1"));
    await until(() => expect(seqs(store)[0]).toBe(1));
    expect(seqs(store)).toEqual(Array.from({ length: 230 }, (_, index) => index + 1));
  });

  it("loads all messages that were sent while it was offline", async () => {
    const store = await reading(1);
    store.dispatch(networkLost());
    for (let index = 2; index <= 260; index += 1) backend.store(c1(), YOU, `${index}`);
    await until(() => expect(seqs(store)).toHaveLength(260));
  });
});

describe("other users", () => {
  it("can send and receive messages", async () => {
    const me = open();
    const you = open({ user: YOU });
    await until(() => expect([status(me), status(you)]).toEqual(["ready", "ready"]));
    me.dispatch(startRequested({ request: "r", participantIds: [YOU] }));
    await until(() => expect(me.getState().screen.openId).toBe("c1"));
    // Other users do not see a conversation before its first message
    expect(selectConversationIds(you.getState())).toEqual([]);
    me.dispatch(messageComposed("c1", "ping"));
    await until(() => expect(selectConversationIds(you.getState())).toEqual(["c1"]));
    // A new conversation appears in the list, but does not open
    expect(you.getState().screen.openId).toBeNull();
    you.dispatch(openConversation("c1"));
    you.dispatch(messageComposed("c1", "pong"));
    await until(() =>
      expect([bodies(me), bodies(you)]).toEqual([
        ["ping", "pong"],
        ["ping", "pong"],
      ]),
    );
  });

  it("cause an error message when a conversation with them can't be started", async () => {
    const store = open();
    await until(() => expect(status(store)).toBe("ready"));
    store.dispatch(startRequested({ request: "r", participantIds: ["nobody"] }));
    await until(() => expect(store.getState().screen.startError).toBe("Refused: user_not_found."));
  });

  it("are shown as typing until a timeout", async () => {
    const me = await reading(1);
    const you = open({ user: YOU });
    await until(() => expect(selectConversationIds(you.getState())).toEqual(["c1"]));
    you.dispatch(draftChanged({ conversationId: "c1", text: "h" }));
    await until(() => expect(selectTyping(me.getState(), "c1")).toEqual([YOU]));
    await until(() => expect(selectTyping(me.getState(), "c1")).toEqual([]));
    // and the client notifies the server once, not for every letter
    you.dispatch(draftChanged({ conversationId: "c1", text: "he" }));
    expect(edge.payloads("typing")).toHaveLength(1);
  });

  it("are named once, all together, when a large group shows messages of those it does not show", async () => {
    // Given a group of 30 in which the last ones have written
    const ids = Array.from({ length: 29 }, (_, index) => `u${index}`);
    for (const id of ids) backend.addUser(id, `User ${id}`);
    const group = backend.start(ME, ids);
    for (const id of [...ids.slice(-3), ...ids.slice(-3)]) backend.store(group, id, `from ${id}`);
    const store = open();
    await until(() => expect(selectConversationIds(store.getState())).toEqual(["c1"]));
    // When it is opened, then the senders have their names, and nobody was asked for twice
    store.dispatch(openConversation("c1"));
    const nameOf = (id: string) => selectPerson(store.getState(), id).name;
    await until(() => expect(ids.slice(-3).map(nameOf)).toEqual(["User u26", "User u27", "User u28"]));
    const asked = edge.payloads("get_users").flatMap(({ user_ids }) => user_ids);
    expect([...asked].sort()).toEqual(["u26", "u27", "u28"]);
  });

  it("are asked for once when the server does not know them", async () => {
    const store = await reading(1);
    for (const user_id of ["ghost", "ghost", "stranger"]) {
      backend.push(ME, "typing", { conversation_id: "c1", user_id, typing: true });
      await until(() => expect(selectPeople(store.getState()).usersById[user_id]?.name).toBe(user_id));
    }
    expect(edge.payloads("get_users")).toEqual([{ user_ids: ["ghost"] }, { user_ids: ["stranger"] }]);
  });

  it("of a large group are listed page by page, with their presence", async () => {
    const ids = Array.from({ length: 69 }, (_, index) => `u${index}`);
    for (const id of ids) backend.addUser(id);
    backend.store(backend.start(ME, ids), ME, "hello");
    const store = open();
    await until(() => expect(selectConversationIds(store.getState())).toEqual(["c1"]));
    store.dispatch(openConversation("c1"));
    store.dispatch(participantsOpened("c1"));
    await until(() => expect(selectParticipants(store.getState()).ids).toHaveLength(50));
    store.dispatch(moreParticipantsRequested());
    await until(() => expect(selectParticipants(store.getState()).ids).toEqual([ME, ...ids]));
    expect(selectParticipants(store.getState())).toMatchObject({ requested: false, nextCursor: null, error: null });
    expect(selectPresence(store.getState(), ME)?.online).toBe(true);
    store.dispatch(conversationClosed());
    expect(selectParticipants(store.getState())).toMatchObject({ shownFor: null, ids: [] });
  });

  it("can be found by name, with their presence", async () => {
    const store = open();
    const you = open({ user: YOU });
    await until(() => expect([status(store), status(you)]).toEqual(["ready", "ready"]));
    store.dispatch(searchChanged("yo"));
    await until(() => expect(selectPeople(store.getState()).resultIds).toEqual([YOU]));
    expect(selectPresence(store.getState(), YOU)?.online).toBe(true);
  });
});
