import { expect, it } from "vitest";
import { rootReducer, type RootState } from "@/app/rootReducer";
import type { Presence } from "@/protocol";
import { aConversation } from "../../../test/builders";
import { conversationUpdated } from "../conversations/conversationsSlice";
import { presenceUpdated, selectPresence } from "./presenceSlice";

type Action = Parameters<typeof rootReducer>[1];

const NEVER: Presence = { user_id: "you", online: false, last_seen_at: null };
const FIRST_VISIT: Presence = { user_id: "you", online: true, last_seen_at: null };
const LEFT: Presence = { user_id: "you", online: false, last_seen_at: "2026-01-01T10:00:00.000Z" };
const BACK: Presence = { ...LEFT, online: true };
const LEFT_AGAIN: Presence = { user_id: "you", online: false, last_seen_at: "2026-01-01T11:00:00.000Z" };
const HISTORY = [NEVER, FIRST_VISIT, LEFT, BACK, LEFT_AGAIN];

function listed({ online, last_seen_at }: Presence): Action {
  const conversation = aConversation("c1");
  const you = conversation.participants.find(({ user }) => user.id === "you");
  if (you) Object.assign(you, { online, last_seen_at });
  return conversationUpdated(conversation);
}

const after = (...actions: Action[]): Presence | undefined =>
  selectPresence(actions.reduce<RootState>(rootReducer, rootReducer(undefined, { type: "init" })), "you");

it("keeps the newest presence when a conversation with an older one arrives later", () => {
  for (const [index, newer] of HISTORY.entries())
    for (const older of HISTORY.slice(0, index)) {
      expect(after(presenceUpdated(newer), listed(older))).toEqual(newer);
      expect(after(presenceUpdated(older), listed(newer))).toEqual(newer);
    }
});

it("takes every push, because the last one is the newest", () => {
  expect(after(presenceUpdated(BACK), presenceUpdated(NEVER))).toEqual(NEVER);
});
