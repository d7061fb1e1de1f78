import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { FakeEdge, tokenFor, World } from "../../test/fakeWarren";
import { signedIn, signedOut } from "@/features/auth/authSlice";
import { TokenRefused, type TokenProvider } from "@/features/auth/tokens";
import { networkLost, retryRequested, selectConnection } from "@/features/connection/connectionSlice";
import { selectConversationIds, selectTotalUnread, selectUnread } from "@/features/conversations/conversationsSlice";
import { openConversation } from "@/features/conversations/openConversation";
import { windowFocusChanged, messagesViewed, startRequested } from "@/features/conversations/screenSlice";
import { draftChanged } from "@/features/messages/draftsSlice";
import { messageComposed, type OutgoingMessage } from "@/features/messages/messageEvents";
import { olderRequested, selectMessages } from "@/features/messages/messagesSlice";
import { selectOutgoing } from "@/features/messages/outboxSlice";
import { searchChanged, selectPeople } from "@/features/people/peopleSlice";
import { selectPresence } from "@/features/presence/presenceSlice";
import { selectTyping } from "@/features/typing/typingSlice";
import type { OutboxStorage } from "./outboxStorage";
import type { Timing } from "./timing";
import { makeStore, type AppStore } from "./store";

/** Real sockets, short waits. */
const TIMING: Partial<Timing> = {
  ackTimeout: 400,
  retryBase: 20,
  retryCap: 100,
  failoverJitter: 20,
  gapDelay: 20,
  totalDelay: 30,
  searchDebounce: 10,
  typingTimeout: 80,
};
const ME = "me";
const YOU = "you";

function outboxInMemory(): OutboxStorage {
  const kept = new Map<string, OutgoingMessage>();
  return {
    load: () => [...kept.values()],
    save: (_, before, after) => {
      for (const id of Object.keys(before)) if (!after[id]) kept.delete(id);
      for (const entry of Object.values(after)) kept.set(entry.client_message_id, entry);
    },
  };
}

let world: World;
let edge: FakeEdge;
let opened: { close: () => void }[];

beforeEach(async () => {
  world = new World();
  world.join(ME);
  world.join(YOU);
  edge = await FakeEdge.open(world);
  opened = [];
});

afterEach(async () => {
  for (const { close } of opened) close();
  for (const each of [...world.edges]) await each.close();
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

/** A client with `c1`, in which `count` messages were said, open before its eyes. */
async function reading(count: number, options: Options = {}): Promise<AppStore> {
  const held = world.start(YOU, [ME]);
  for (let index = 1; index <= count; index += 1) world.store(held, YOU, `${index}`);
  const store = open(options);
  await until(() => expect(selectConversationIds(store.getState())).toContain("c1"));
  store.dispatch(openConversation("c1"));
  await until(() => expect(seqs(store).at(-1)).toBe(count));
  return store;
}

const c1 = () => {
  const held = world.conversations.get("c1");
  if (!held) throw new Error("c1 was not started");
  return held;
};

describe("connecting", () => {
  it("takes a snapshot on every session_ready", async () => {
    const store = await reading(2);
    // Given pushes that were lost
    edge.mute("new_message", "unread_updated", "conversation_updated");
    world.say(c1(), YOU, "3");
    // When the edge says that some may have been missed
    edge.announce(ME);
    // Then the picture equals the server's again
    await until(() => expect(bodies(store)).toEqual(["1", "2", "3"]));
    expect(unread(store)).toBe(3);
    expect(selectTotalUnread(store.getState())).toBe(3);
  });

  it("goes to another edge when one is lost, and misses nothing", async () => {
    const other = await FakeEdge.open(world);
    const store = await reading(1, { edges: [edge.url, other.url] });
    await edge.close();
    world.say(c1(), YOU, "2");
    await until(() => expect(selectConnection(store.getState()).edgeId).toBe(other.url));
    await until(() => expect(bodies(store)).toEqual(["1", "2"]));
  });

  it("leaves a draining edge when told, and keeps sending until then", async () => {
    const other = await FakeEdge.open(world);
    const store = await reading(1, { edges: [edge.url, other.url] });
    edge.push(ME, "server_draining", { reconnect_after_ms: 150 });
    await until(() => expect(status(store)).toBe("draining"));
    store.dispatch(messageComposed("c1", "still here"));
    await until(() => expect(outgoing(store)).toEqual([]));
    await until(() => expect(selectConnection(store.getState()).edgeId).toBe(other.url));
    expect(status(store)).toBe("ready");
  });

  it("stops when refused for good, says why, and tries again when asked", async () => {
    edge.refuseConnections("not_verified");
    const store = open();
    await until(() => expect(status(store)).toBe("refused"));
    expect(selectConnection(store.getState()).reason?.message).toBe("Refused: not_verified.");
    edge.refuseConnections(null);
    store.dispatch(retryRequested());
    await until(() => expect(status(store)).toBe("ready"));
  });

  it("keeps trying when refused for now", async () => {
    edge.refuseConnections("too_many_connections", true);
    const store = open();
    await until(() => expect(edge.tokens.length).toBeGreaterThan(2));
    edge.refuseConnections(null);
    await until(() => expect(status(store)).toBe("ready"));
  });

  it("asks for a fresh token when the one it had is expired, once", async () => {
    const asked: boolean[] = [];
    const token: TokenProvider = ({ fresh }) => {
      asked.push(fresh);
      return Promise.resolve(tokenFor(ME, ME, fresh ? 3600 : -5));
    };
    const store = open({ token });
    await until(() => expect(status(store)).toBe("ready"));
    expect(asked).toEqual([false, true]);
  });

  it("is refused when no token is to be had", async () => {
    const store = open({ token: () => Promise.reject(new TokenRefused("Not today.")) });
    await until(() => expect(status(store)).toBe("refused"));
  });

  it("hands in the next token before the one it has expires", async () => {
    const tokens = [tokenFor(ME, ME, 2), tokenFor(ME, ME, 3600)];
    const store = open({ token: () => Promise.resolve(tokens.shift() ?? "") });
    await until(() => expect(edge.payloads("refresh_token")).toHaveLength(1));
    expect(status(store)).toBe("ready");
  });

  it("begins anew when the host application hands over someone else's token", async () => {
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

  it("forgets everything on signing out", async () => {
    const store = await reading(3);
    store.dispatch(signedOut());
    expect(selectConversationIds(store.getState())).toEqual([]);
    await until(() => expect(edge.socketsOf(ME)).toEqual([]));
  });
});

describe("sending", () => {
  it("shows a message at once and then in its place", async () => {
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
  ] as const)("survives an ack of %j with the same id, once in history and in order", async (fault) => {
    const store = await reading(1);
    edge.fail("send_message", fault);
    store.dispatch(messageComposed("c1", "first"));
    store.dispatch(messageComposed("c1", "second"));
    await until(() => expect(bodies(store)).toEqual(["1", "first", "second"]));
    expect(c1().messages.map(({ body }) => body)).toEqual(["1", "first", "second"]);
    expect(new Set(edge.payloads("send_message").map((payload) => payload.client_message_id)).size).toBe(2);
  });

  it("waits for a connection, also over a reload", async () => {
    const outbox = outboxInMemory();
    const before = await reading(1, { outbox });
    // Given a message written while the edge was away
    const { url } = edge;
    await edge.close();
    before.dispatch(messageComposed("c1", "kept"));
    const id = outgoing(before)[0]?.client_message_id;
    // When the page is loaded again, and the edge comes back
    before.dispatch(signedOut());
    const after = open({ outbox, edges: [url] });
    await until(() => expect(outgoing(after)).toHaveLength(1));
    edge = await FakeEdge.open(world, Number(new URL(url).port));
    // Then it is delivered under the id it always had
    await until(() => expect(c1().messages.map(({ body }) => body)).toEqual(["1", "kept"]));
    expect(c1().messages[1]?.client_message_id).toBe(id);
    await until(() => expect(outbox.load(ME)).toEqual([]));
  });

  it("tells why a message was refused, and goes on with the next", async () => {
    const store = await reading(1);
    edge.fail("send_message", { code: "forbidden", retryable: false });
    store.dispatch(messageComposed("c1", "insult"));
    store.dispatch(messageComposed("c1", "apology"));
    await until(() => expect(bodies(store)).toEqual(["1", "apology"]));
    expect(outgoing(store)).toMatchObject([{ body: "insult", refusal: { code: "forbidden" } }]);
  });
});

describe("reading", () => {
  it("tells what was seen only while the person looks at the end", async () => {
    const store = await reading(2);
    store.dispatch(windowFocusChanged(false));
    store.dispatch(messagesViewed({ conversationId: "c1", seq: 2 }));
    expect(unread(store)).toBe(2);
    store.dispatch(windowFocusChanged(true));
    await until(() => expect(unread(store)).toBe(0));
    expect(edge.payloads("message_seen")).toEqual([{ conversation_id: "c1", seq: 2 }]);
  });

  it("tells it again when the first telling failed", async () => {
    const store = await reading(1);
    edge.fail("message_seen", "drop", { code: "unavailable", retryable: true });
    store.dispatch(messagesViewed({ conversationId: "c1", seq: 1 }));
    await until(() => expect(unread(store)).toBe(0));
  });

  it("fetches a message whose push was lost", async () => {
    const store = await reading(1);
    edge.mute("new_message");
    world.say(c1(), YOU, "2");
    edge.mute();
    world.say(c1(), YOU, "3");
    await until(() => expect(seqs(store)).toEqual([1, 2, 3]));
  });

  it("asks for the total again when it contradicts the numbers it belongs to", async () => {
    const store = await reading(2);
    // Given a total that was overtaken on its way
    world.push(ME, "unread_updated", { ...world.unread(c1(), ME), total_unread: 99 });
    await until(() => expect(selectTotalUnread(store.getState())).toBe(99));
    // Then the server's own is fetched
    await until(() => expect(selectTotalUnread(store.getState())).toBe(2));
  });

  it("loads older pages down to the first message", async () => {
    const store = await reading(230);
    expect(seqs(store)).toHaveLength(100);
    store.dispatch(olderRequested("c1"));
    await until(() => expect(seqs(store)).toHaveLength(200));
    store.dispatch(olderRequested("c1"));
    await until(() => expect(seqs(store)[0]).toBe(1));
    expect(seqs(store)).toEqual(Array.from({ length: 230 }, (_, index) => index + 1));
  });

  it("catches up with everything said while it was away", async () => {
    const store = await reading(1);
    store.dispatch(networkLost());
    for (let index = 2; index <= 260; index += 1) world.store(c1(), YOU, `${index}`);
    await until(() => expect(seqs(store)).toHaveLength(260));
  });
});

describe("with others", () => {
  it("chats both ways", async () => {
    const me = open();
    const you = open({ user: YOU });
    await until(() => expect([status(me), status(you)]).toEqual(["ready", "ready"]));
    me.dispatch(startRequested({ request: "r", participantIds: [YOU] }));
    await until(() => expect(me.getState().screen.openId).toBe("c1"));
    // No ghost: nobody else sees a conversation before its first message
    expect(selectConversationIds(you.getState())).toEqual([]);
    me.dispatch(messageComposed("c1", "ping"));
    await until(() => expect(selectConversationIds(you.getState())).toEqual(["c1"]));
    // No hijack: it is in the list, and not on the screen
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

  it("tells the initiator why a conversation can't be started", async () => {
    const store = open();
    await until(() => expect(status(store)).toBe("ready"));
    store.dispatch(startRequested({ request: "r", participantIds: ["nobody"] }));
    await until(() => expect(store.getState().screen.startError).toBe("Refused: user_not_found."));
  });

  it("shows typing until it ends or falls silent", async () => {
    const me = await reading(1);
    const you = open({ user: YOU });
    await until(() => expect(selectConversationIds(you.getState())).toEqual(["c1"]));
    you.dispatch(draftChanged({ conversationId: "c1", text: "h" }));
    await until(() => expect(selectTyping(me.getState(), "c1")).toEqual([YOU]));
    await until(() => expect(selectTyping(me.getState(), "c1")).toEqual([]));
    // and tells of a draft once, not for every letter
    you.dispatch(draftChanged({ conversationId: "c1", text: "he" }));
    expect(edge.payloads("typing")).toHaveLength(1);
  });

  it("finds people and knows who is online", async () => {
    const store = open();
    const you = open({ user: YOU });
    await until(() => expect([status(store), status(you)]).toEqual(["ready", "ready"]));
    store.dispatch(searchChanged("yo"));
    await until(() => expect(selectPeople(store.getState()).resultIds).toEqual([YOU]));
    expect(selectPresence(store.getState(), YOU)?.online).toBe(true);
  });
});
