import { describe, expect, it } from "vitest";
import { rootReducer, type RootState } from "@/app/rootReducer";
import { aConversation, aMessage, aParticipant, sessionOf } from "../../../test/builders";
import { connectionDraining, sessionReady } from "../connection/connectionSlice";
import { messageAccepted, messageReceived } from "../messages/messageEvents";
import { presenceUpdated } from "../presence/presenceSlice";
import { typingChanged } from "../typing/typingSlice";
import {
  conversationsListed,
  conversationStarted,
  conversationUpdated,
  seenByOther,
  selectConversation,
  selectConversationIds,
  selectHeardReads,
  selectTotalUnread,
  selectUnread,
  snapshotLoaded,
  unreadUpdated,
} from "./conversationsSlice";
import { selectBadge } from "./conversationSelectors";
import { mergeConversation } from "./merge";
import { conversationName } from "./names";
import { everyoneReadUpTo } from "./reads";
import { windowFocusChanged, conversationOpened, startRequested } from "./screenSlice";

type Action = Parameters<typeof rootReducer>[1];

function after(...actions: Action[]): RootState {
  const initial = rootReducer(undefined, { type: "init" });
  return [sessionReady(sessionOf("me")), ...actions].reduce<RootState>(rootReducer, initial);
}

const unread = (last_read_seq: number, unread_count: number, total_unread = unread_count, total_version = 0) =>
  unreadUpdated({
    conversation_id: "c1",
    unread_count,
    last_seq: last_read_seq + unread_count,
    last_read_seq,
    last_read_at: null,
    total_unread,
    total_version,
  });

describe("unread counts", () => {
  it("take the newest value of the server, whatever order the values arrive in", () => {
    // Given that all 5 messages are read, and then a late push from when 2 of 4 were unread
    const state = after(conversationUpdated(aConversation("c1")), unread(5, 0, 0, 8), unread(2, 2, 2, 7));
    // Then the late push changes nothing
    expect(selectUnread(state, "c1")).toBe(0);
    expect(selectTotalUnread(state)).toBe(0);
  });

  it("do not change with a new message until the server sends a new count", () => {
    const state = after(conversationUpdated(aConversation("c1")), messageReceived(aMessage("c1", 1, "you")));
    expect(selectUnread(state, "c1")).toBe(0);
    expect(selectUnread(rootReducer(state, unread(0, 1)), "c1")).toBe(1);
  });

  it("from an older snapshot do not replace those from a newer push", () => {
    const stale = aConversation("c1", { last_seq: 3, unread_count: 3 });
    const state = after(
      unread(3, 0),
      conversationsListed({ conversations: [stale], next_cursor: null, total_unread: 0, total_version: 0 }),
    );
    expect(selectUnread(state, "c1")).toBe(0);
  });

  it("have no badge on the open conversation while the window has focus", () => {
    const open = after(
      conversationUpdated(aConversation("c1")),
      conversationOpened({ id: "c1", dividerAfter: null }),
      unread(0, 1),
    );
    expect(selectBadge(open, "c1")).toBe(0);
    expect(selectBadge(rootReducer(open, windowFocusChanged(false)), "c1")).toBe(1);
  });

  it("and the total are judged separately, each by its own order", () => {
    // Given a count of the newest messages whose total was read early, and an older count whose total was read late
    const newCount = unread(3, 2, 4, 7);
    const newTotal = unread(3, 1, 5, 8);
    const listed = conversationsListed({ conversations: [], next_cursor: null, total_unread: 9, total_version: 6 });
    // Then the end is the same in every order
    for (const order of [
      [newCount, newTotal, listed],
      [listed, newTotal, newCount],
      [newTotal, listed, newCount],
    ]) {
      const state = after(...order);
      expect(selectUnread(state, "c1")).toBe(2);
      expect(selectTotalUnread(state)).toBe(5);
    }
  });
});

describe("the open conversation", () => {
  const open = after(conversationUpdated(aConversation("c1")), conversationOpened({ id: "c1", dividerAfter: null }));

  it.each([
    conversationUpdated(aConversation("c2")),
    conversationsListed({ conversations: [aConversation("c2")], next_cursor: null, total_unread: 0, total_version: 0 }),
    conversationStarted({ request: "another request", conversation: aConversation("c2") }),
    messageReceived(aMessage("c2", 1, "you")),
    unreadUpdated({
      conversation_id: "c2",
      unread_count: 1,
      last_seq: 1,
      last_read_seq: 0,
      last_read_at: null,
      total_unread: 1,
      total_version: 1,
    }),
    seenByOther({ conversation_id: "c1", user_id: "you", last_read_seq: 1, last_read_at: null }),
    presenceUpdated({ user_id: "you", online: true, last_seen_at: null }),
    typingChanged({ conversation_id: "c2", user_id: "you", typing: true }),
    connectionDraining({ closesAt: 0 }),
    sessionReady(sessionOf("me")),
  ])("is not changed by $type", (action) => {
    expect(rootReducer(open, action as Action).screen.openId).toBe("c1");
  });

  it("changes when a conversation that the user starts is acked", () => {
    const starting = rootReducer(open, startRequested({ request: "r", participantIds: ["you"] }));
    const started = rootReducer(starting, conversationStarted({ request: "r", conversation: aConversation("c2") }));
    expect(started.screen.openId).toBe("c2");
  });

  it("does not change on that ack after the user has opened another conversation", () => {
    const starting = rootReducer(open, startRequested({ request: "r", participantIds: ["you"] }));
    const otherOpened = rootReducer(starting, conversationOpened({ id: "c3", dividerAfter: null }));
    const started = rootReducer(otherOpened, conversationStarted({ request: "r", conversation: aConversation("c2") }));
    expect(started.screen.openId).toBe("c3");
  });
});

describe("how far others have read", () => {
  // Given a group of four, of whom the conversation shows two
  const group = aConversation("c1", { kind: "group", participant_count: 4 });
  const seen = (user_id: string, last_read_seq: number) =>
    seenByOther({ conversation_id: "c1", user_id, last_read_seq, last_read_at: null });
  const readUpTo = (state: RootState) => {
    const conversation = selectConversation(state, "c1");
    return conversation && everyoneReadUpTo(conversation, selectHeardReads(state, "c1"), "me");
  };

  it("is unknown until all of them were heard", () => {
    const two = after(conversationUpdated(group), seen("you", 5), seen("third", 4));
    expect(readUpTo(two)).toBe(0);
    expect(readUpTo(rootReducer(two, seen("fourth", 3)))).toBe(3);
  });

  it("never moves back, and a message counts as read by its sender", () => {
    const state = after(
      conversationUpdated(group),
      seen("you", 9),
      messageReceived(aMessage("c1", 7, "third")),
      seen("third", 5),
    );
    expect(selectHeardReads(state, "c1")).toEqual({ third: 7 });
  });

  it("is not asked of the user's own participant, who may not be shown", () => {
    const others = [aParticipant("you"), aParticipant("third")];
    const state = after(
      conversationUpdated(aConversation("c1", { participants: others, participant_count: 3, last_read_seq: 2 })),
      messageAccepted(aMessage("c1", 4, "me")),
      seen("you", 4),
      seen("third", 4),
    );
    expect(selectConversation(state, "c1")?.last_read_seq).toBe(4);
    expect(readUpTo(state)).toBe(4);
  });
});

it("names a group by three people and the number of the others, shown or not", () => {
  const shown = ["me", "Ann B", "Bob C", "Cy D", "Di E"].map((id) => aParticipant(id));
  const group = aConversation("c1", { kind: "group", participants: shown, participant_count: 30 });
  expect(conversationName(group, "me")).toBe("Ann, Bob, Cy and 26 more");
});

it("treats earlier messages as read by the sender of a new one", () => {
  const state = after(conversationUpdated(aConversation("c1")), messageReceived(aMessage("c1", 3, "you")));
  expect(state.conversations.entities["c1"]?.participants[1]?.last_read_seq).toBe(3);
});

describe("the conversation list", () => {
  it("sorts by latest activity and moves a conversation up on a new message", () => {
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

  it("is requested again when a message belongs to an unknown conversation", () => {
    const state = after(snapshotLoaded(1));
    const { snapshotsRequested } = rootReducer(state, messageReceived(aMessage("c9", 4, "you"))).conversations;
    expect(snapshotsRequested).toBeGreaterThan(state.conversations.snapshotsRequested);
  });
});

it("merges two versions of a conversation and keeps the newer value of each part", () => {
  const current = aConversation("c1", { last_seq: 5, updated_at: "2026-01-02T00:00:00.000Z" });
  const late = aConversation("c1", { last_seq: 4, updated_at: "2026-01-01T00:00:00.000Z", title: "Renamed" });
  const you = current.participants[1];
  if (you) you.last_read_seq = 5;
  const merged = mergeConversation(current, late);
  expect(merged).toMatchObject({ last_seq: 5, updated_at: current.updated_at, title: "Renamed" });
  expect(merged.participants[1]?.last_read_seq).toBe(5);
});
