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

/** The state with `c1` open and its messages 11 to 20 loaded. */
function reading(...actions: Action[]): RootState {
  const initial = rootReducer(undefined, { type: "init" });
  return [
    sessionReady(sessionOf("me")),
    conversationUpdated(aConversation("c1", { last_seq: 20 })),
    conversationOpened({ id: "c1", dividerAfter: null }),
    newestLoaded({ conversation_id: "c1", session: 1, messages: messagesFrom("c1", 11, 20), has_more: true }),
    ...actions,
  ].reduce<RootState>(rootReducer, initial);
}

const seqs = (state: RootState) => selectMessages(state, "c1").map(({ seq }) => seq);

describe("messages", () => {
  it("are stored once and ordered by seq, whatever order they arrive in", () => {
    const state = reading(...[22, 21, 23, 21].map((seq) => messageReceived(aMessage("c1", seq))));
    expect(seqs(state).slice(-4)).toEqual([20, 21, 22, 23]);
    expect(state.messages.threads["c1"]?.contiguousUpTo).toBe(23);
  });

  it("request a missing message, and nothing more once it has arrived", () => {
    const state = reading(messageReceived(aMessage("c1", 22)));
    expect(selectHistoryPageToLoad(state)).toEqual({ kind: "newer", conversation_id: "c1", after_seq: 20, gap: true });
    const filled = rootReducer(state, messageReceived(aMessage("c1", 21)));
    expect(selectHistoryPageToLoad(filled)).toBeNull();
  });

  it("are requested when the conversation shows a newer one without a push", () => {
    const state = reading(conversationUpdated(aConversation("c1", { last_seq: 24 })));
    expect(selectHistoryPageToLoad(state)).toMatchObject({ kind: "newer", after_seq: 20 });
  });

  it("are compared with history after every session_ready", () => {
    const state = reading(sessionReady(sessionOf("me")));
    expect(selectHistoryPageToLoad(state)).toMatchObject({ kind: "newer", after_seq: 20, gap: false });
    const compared = newerLoaded({ conversation_id: "c1", session: 2, messages: [], has_more: false });
    expect(selectHistoryPageToLoad(rootReducer(state, compared))).toBeNull();
  });

  it("are replaced by the newest page when very many were missed", () => {
    const state = reading(conversationUpdated(aConversation("c1", { last_seq: 5000 })));
    expect(selectHistoryPageToLoad(state)?.kind).toBe("newest");
  });

  it("before the first loaded one are requested when the user scrolls up", () => {
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

describe("an outgoing message", () => {
  const composed = messageComposed("c1", "  hello  ");
  const id = composed.payload.client_message_id;
  const stored = aMessage("c1", 21, "me", { client_message_id: id });

  it("is stored trimmed in the outbox and removed when accepted", () => {
    const state = reading(composed);
    expect(selectOutgoing(state, "c1")).toMatchObject([{ body: "hello", client_message_id: id }]);
    const accepted = rootReducer(state, messageAccepted(stored));
    expect(selectOutgoing(accepted, "c1")).toEqual([]);
    expect(seqs(accepted)).toContain(21);
  });

  it.each([
    ["a push", messageReceived(stored)],
    ["history", newerLoaded({ conversation_id: "c1", session: 1, messages: [stored], has_more: false })],
  ])("is removed from the outbox by its id when %s contains it after a lost ack", (_, action) => {
    const state = reading(composed, action);
    expect(selectOutgoing(state, "c1")).toEqual([]);
    expect(rootReducer(state, messageAccepted(stored)).messages.threads["c1"]?.messages.ids).toHaveLength(11);
  });

  it("waits for the previous one, unless that was refused", () => {
    const second = messageComposed("c1", "second");
    const state = reading(composed, second);
    expect(selectNextToSend(state).map(({ body }) => body)).toEqual(["hello"]);
    const refused = messageRefused({ client_message_id: id, refusal: { code: "forbidden", message: "No." } });
    expect(selectNextToSend(rootReducer(state, refused)).map(({ body }) => body)).toEqual(["second"]);
  });
});

it("splits messages into blocks and changes only the last block for a new message", () => {
  const split = createBlockSplitter();
  const messages = messagesFrom("c1", 1, 100);
  const before = split(messages);
  const after = split([...messages, aMessage("c1", 101)]);
  expect(before.map((block) => block.messages.length)).toEqual([40, 40, 20]);
  expect(after.slice(0, 2)).toEqual(before.slice(0, 2));
  expect(after[0]).toBe(before[0]);
  expect(after[2]).not.toBe(before[2]);
});
