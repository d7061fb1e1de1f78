import { describe, expect, it } from "vitest";
import { rootReducer, type RootState } from "@/app/rootReducer";
import { aConversation, aMessage, messagesFrom, sessionOf } from "../../../test/builders";
import { sessionReady } from "../connection/connectionSlice";
import { conversationUpdated } from "../conversations/conversationsSlice";
import { conversationOpened } from "../conversations/screenSlice";
import { selectHistoryPageToLoad } from "./historySelectors";
import { createBlockSplitter } from "./messageBlocks";
import { messageAccepted, messageComposed, messageReceived } from "./messageEvents";
import { newerLoaded, newestLoaded, olderLoaded, olderRequested, selectMessages } from "./messagesSlice";
import { messageRefused, selectNextToSend, selectOutgoing } from "./outboxSlice";

type Action = Parameters<typeof rootReducer>[1];

/** The state with `c1` open and messages 11 to 20 of it held. */
function reading(...actions: Action[]): RootState {
  const begin = rootReducer(undefined, { type: "begin" });
  return [
    sessionReady(sessionOf("me")),
    conversationUpdated(aConversation("c1", { last_seq: 20 })),
    conversationOpened({ id: "c1", dividerAfter: null }),
    newestLoaded({ conversation_id: "c1", session: 1, messages: messagesFrom("c1", 11, 20), has_more: true }),
    ...actions,
  ].reduce<RootState>(rootReducer, begin);
}

const seqs = (state: RootState) => selectMessages(state, "c1").map(({ seq }) => seq);

describe("messages", () => {
  it("stand in the order of their seq, however they arrive, and once however often", () => {
    const state = reading(...[22, 21, 23, 21].map((seq) => messageReceived(aMessage("c1", seq))));
    expect(seqs(state).slice(-4)).toEqual([20, 21, 22, 23]);
    expect(state.messages.threads["c1"]?.contiguousUpTo).toBe(23);
  });

  it("with one missing ask for it, and for nothing once it is there", () => {
    const state = reading(messageReceived(aMessage("c1", 22)));
    expect(selectHistoryPageToLoad(state)).toEqual({ kind: "newer", conversation_id: "c1", after_seq: 20, gap: true });
    const filled = rootReducer(state, messageReceived(aMessage("c1", 21)));
    expect(selectHistoryPageToLoad(filled)).toBeNull();
  });

  it("that a header knows of and nobody pushed are asked for", () => {
    const state = reading(conversationUpdated(aConversation("c1", { last_seq: 24 })));
    expect(selectHistoryPageToLoad(state)).toMatchObject({ kind: "newer", after_seq: 20 });
  });

  it("are compared with history after every session_ready", () => {
    const state = reading(sessionReady(sessionOf("me")));
    expect(selectHistoryPageToLoad(state)).toMatchObject({ kind: "newer", after_seq: 20, gap: false });
    const compared = newerLoaded({ conversation_id: "c1", session: 2, messages: [], has_more: false });
    expect(selectHistoryPageToLoad(rootReducer(state, compared))).toBeNull();
  });

  it("are loaded anew when very many were missed", () => {
    const state = reading(conversationUpdated(aConversation("c1", { last_seq: 5000 })));
    expect(selectHistoryPageToLoad(state)?.kind).toBe("newest");
  });

  it("before the first held are loaded when the person scrolls up", () => {
    const state = reading(olderRequested("c1"));
    expect(selectHistoryPageToLoad(state)).toEqual({ kind: "older", conversation_id: "c1", before_seq: 11 });
    const loaded = olderLoaded({
      conversation_id: "c1",
      session: 1,
      messages: messagesFrom("c1", 1, 10),
      has_more: false,
    });
    expect(seqs(rootReducer(state, loaded))).toHaveLength(20);
  });
});

describe("a message of one's own", () => {
  const composed = messageComposed("c1", "  hello  ");
  const id = composed.payload.client_message_id;
  const stored = aMessage("c1", 21, "me", { client_message_id: id });

  it("waits in the outbox, trimmed, and leaves it when accepted", () => {
    const state = reading(composed);
    expect(selectOutgoing(state, "c1")).toMatchObject([{ body: "hello", client_message_id: id }]);
    const accepted = rootReducer(state, messageAccepted(stored));
    expect(selectOutgoing(accepted, "c1")).toEqual([]);
    expect(seqs(accepted)).toContain(21);
  });

  it.each([
    ["a push", messageReceived(stored)],
    ["history", newerLoaded({ conversation_id: "c1", session: 1, messages: [stored], has_more: false })],
  ])("is known by its id when its ack was lost and %s brings it", (_, action) => {
    const state = reading(composed, action);
    expect(selectOutgoing(state, "c1")).toEqual([]);
    expect(rootReducer(state, messageAccepted(stored)).messages.threads["c1"]?.messages.ids).toHaveLength(11);
  });

  it("is sent after the one before it, and past one that was refused", () => {
    const second = messageComposed("c1", "second");
    const state = reading(composed, second);
    expect(selectNextToSend(state).map(({ body }) => body)).toEqual(["hello"]);
    const refused = messageRefused({ client_message_id: id, refusal: { code: "forbidden", message: "No." } });
    expect(selectNextToSend(rootReducer(state, refused)).map(({ body }) => body)).toEqual(["second"]);
  });
});

it("cuts messages into blocks of which only the last changes with a new message", () => {
  const split = createBlockSplitter();
  const messages = messagesFrom("c1", 1, 100);
  const before = split(messages);
  const after = split([...messages, aMessage("c1", 101)]);
  expect(before.map((block) => block.messages.length)).toEqual([40, 40, 20]);
  expect(after.slice(0, 2)).toEqual(before.slice(0, 2));
  expect(after[0]).toBe(before[0]);
  expect(after[2]).not.toBe(before[2]);
});
