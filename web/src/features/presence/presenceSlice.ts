import { createSlice, type PayloadAction } from "@reduxjs/toolkit";
import type { Conversation, Presence } from "@/protocol";
import { connectionLost, networkLost } from "../connection/connectionSlice";
import { conversationsListed, conversationStarted, conversationUpdated } from "../conversations/conversationsSlice";
import { usersFound } from "../people/peopleSlice";

type State = Record<string, Presence | undefined>;

const initialState: State = {};

function hold(state: State, { user_id, online, last_seen_at }: Presence): void {
  const held = state[user_id];
  if (held?.online !== online || held.last_seen_at !== last_seen_at) state[user_id] = { user_id, online, last_seen_at };
}

function holdParticipants(state: State, { participants }: Conversation): void {
  for (const { user, online, last_seen_at } of participants) hold(state, { user_id: user.id, online, last_seen_at });
}

/** Who is connected, by user. */
export const presenceSlice = createSlice({
  name: "presence",
  initialState,
  reducers: {
    presenceUpdated(state, { payload }: PayloadAction<Presence>) {
      hold(state, payload);
    },
  },
  extraReducers: (builder) => {
    builder
      // Without a connection nobody knows any more; the next snapshot tells.
      .addCase(connectionLost, (state, { payload }) => (payload.code === "unreachable" ? {} : state))
      .addCase(networkLost, () => ({}))
      .addCase(conversationUpdated, (state, { payload }) => holdParticipants(state, payload))
      .addCase(conversationStarted, (state, { payload }) => holdParticipants(state, payload.conversation))
      .addCase(conversationsListed, (state, { payload }) => {
        for (const conversation of payload.conversations) holdParticipants(state, conversation);
      })
      .addCase(usersFound, (state, { payload }) => {
        for (const { id, online, last_seen_at } of payload.users) hold(state, { user_id: id, online, last_seen_at });
      });
  },
  selectors: {
    /** What is known of a user's presence; nothing while there is no connection. */
    selectPresence: (state, userId: string) => state[userId],
  },
});

export const { presenceUpdated } = presenceSlice.actions;
export const { selectPresence } = presenceSlice.selectors;
