import { describe, expect, it } from "vitest";
import { rootReducer, type RootState } from "@/app/rootReducer";
import { aConversation, aMessage, sessionOf } from "../../../test/builders";
import { connectionDraining, sessionReady } from "../connection/connectionSlice";
import { messageReceived } from "../messages/messageEvents";
import { presenceUpdated } from "../presence/presenceSlice";
import { typingChanged } from "../typing/typingSlice";
import {
  conversationsListed,
  conversationStarted,
  conversationUpdated,
  seenByOther,
  selectConversationIds,
  selectTotalIsStale,
  selectTotalUnread,
  selectUnread,
  snapshotLoaded,
  unreadUpdated,
} from "./conversationsSlice";
import { selectBadge } from "./conversationSelectors";
import { mergeConversation } from "./merge";
import { windowFocusChanged, conversationOpened, startRequested } from "./screenSlice";

type Action = Parameters<typeof rootReducer>[1];

function after(...actions: Action[]): RootState {
  const begin = rootReducer(undefined, { type: "begin" });
  return [sessionReady(sessionOf("me")), ...actions].reduce<RootState>(rootReducer, begin);
}

const unread = (last_read_seq: number, unread_count: number, total_unread = unread_count) =>
  unreadUpdated({ conversation_id: "c1", last_read_seq, unread_count, last_read_at: null, total_unread });

describe("unread numbers", () => {
  it("are the server's, and the newest of them whatever order they arrive in", () => {
    // Given a read up to 5 of 5, and then the late news that 2 of 4 were unread
    const state = after(conversationUpdated(aConversation("c1")), unread(5, 0), unread(2, 2));
    // Then the late news changes nothing
    expect(selectUnread(state, "c1")).toBe(0);
    expect(selectTotalUnread(state)).toBe(0);
  });

  it("grow with new messages only when the server says so", () => {
    const state = after(conversationUpdated(aConversation("c1")), messageReceived(aMessage("c1", 1, "you")));
    expect(selectUnread(state, "c1")).toBe(0);
    expect(selectUnread(rootReducer(state, unread(0, 1)), "c1")).toBe(1);
  });

  it("of an older snapshot don't replace those of a newer push", () => {
    const stale = aConversation("c1", { last_seq: 3, unread_count: 3 });
    const state = after(
      unread(3, 0),
      conversationsListed({ conversations: [stale], next_cursor: null, total_unread: 0 }),
    );
    expect(selectUnread(state, "c1")).toBe(0);
  });

  it("never show on the conversation that the person has before their eyes", () => {
    const open = after(
      conversationUpdated(aConversation("c1")),
      conversationOpened({ id: "c1", dividerAfter: null }),
      unread(0, 1),
    );
    expect(selectBadge(open, "c1")).toBe(0);
    expect(selectBadge(rootReducer(open, windowFocusChanged(false)), "c1")).toBe(1);
  });

  it("that contradict their total ask for it again", () => {
    const listed = conversationsListed({ conversations: [aConversation("c1")], next_cursor: null, total_unread: 0 });
    const state = after(listed, snapshotLoaded(1));
    expect(selectTotalIsStale(state)).toBe(false);
    expect(selectTotalIsStale(rootReducer(state, unread(0, 2, 5)))).toBe(true);
  });
});

describe("what is open", () => {
  const open = after(conversationUpdated(aConversation("c1")), conversationOpened({ id: "c1", dividerAfter: null }));

  it.each([
    conversationUpdated(aConversation("c2")),
    conversationsListed({ conversations: [aConversation("c2")], next_cursor: null, total_unread: 0 }),
    conversationStarted({ request: "somebody else's", conversation: aConversation("c2") }),
    messageReceived(aMessage("c2", 1, "you")),
    unreadUpdated({ conversation_id: "c2", last_read_seq: 0, unread_count: 1, last_read_at: null, total_unread: 1 }),
    seenByOther({ conversation_id: "c1", user_id: "you", last_read_seq: 1, last_read_at: null }),
    presenceUpdated({ user_id: "you", online: true, last_seen_at: null }),
    typingChanged({ conversation_id: "c2", user_id: "you", typing: true }),
    connectionDraining({ closesAt: 0 }),
    sessionReady(sessionOf("me")),
  ])("is not changed by $type", (action) => {
    expect(rootReducer(open, action as Action).screen.openId).toBe("c1");
  });

  it("is changed by the ack of one's own start", () => {
    const starting = rootReducer(open, startRequested({ request: "r", participantIds: ["you"] }));
    const started = rootReducer(starting, conversationStarted({ request: "r", conversation: aConversation("c2") }));
    expect(started.screen.openId).toBe("c2");
  });

  it("is not changed by that ack once the person has gone elsewhere", () => {
    const starting = rootReducer(open, startRequested({ request: "r", participantIds: ["you"] }));
    const elsewhere = rootReducer(starting, conversationOpened({ id: "c3", dividerAfter: null }));
    const started = rootReducer(elsewhere, conversationStarted({ request: "r", conversation: aConversation("c2") }));
    expect(started.screen.openId).toBe("c3");
  });
});

it("knows that whoever writes has read what is above", () => {
  const state = after(conversationUpdated(aConversation("c1")), messageReceived(aMessage("c1", 3, "you")));
  expect(state.conversations.entities["c1"]?.participants[1]?.last_read_seq).toBe(3);
});

describe("the list", () => {
  it("has the newest activity first, also when it comes with a message", () => {
    const state = after(
      conversationUpdated(aConversation("c1", { updated_at: "2026-01-01T10:00:00.000Z" })),
      conversationUpdated(aConversation("c2", { updated_at: "2026-01-01T11:00:00.000Z" })),
    );
    expect(selectConversationIds(state)).toEqual(["c2", "c1"]);
    const moved = rootReducer(
      state,
      messageReceived(aMessage("c1", 1, "you", { sent_at: "2026-01-01T12:00:00.000Z" })),
    );
    expect(selectConversationIds(moved)).toEqual(["c1", "c2"]);
  });

  it("is asked for again when a message belongs to no conversation known", () => {
    const state = after(snapshotLoaded(1));
    const { snapshotsRequested } = rootReducer(state, messageReceived(aMessage("c9", 4, "you"))).conversations;
    expect(snapshotsRequested).toBeGreaterThan(state.conversations.snapshotsRequested);
  });
});

it("merges two pictures of a conversation into the newer of each part", () => {
  const held = aConversation("c1", { last_seq: 5, updated_at: "2026-01-02T00:00:00.000Z" });
  const late = aConversation("c1", { last_seq: 4, updated_at: "2026-01-01T00:00:00.000Z", title: "Renamed" });
  const you = held.participants[1];
  if (you) you.last_read_seq = 5;
  const merged = mergeConversation(held, late);
  expect(merged).toMatchObject({ last_seq: 5, updated_at: held.updated_at, title: "Renamed" });
  expect(merged.participants[1]?.last_read_seq).toBe(5);
});
