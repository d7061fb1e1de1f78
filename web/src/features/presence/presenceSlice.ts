import { createSlice, type PayloadAction } from "@reduxjs/toolkit";
import type { FoundUser, Participant, Presence } from "@/protocol";
import { connectionLost, networkLost } from "../connection/connectionSlice";
import { conversationsListed, conversationStarted, conversationUpdated } from "../conversations/conversationsSlice";
import { participantsListed } from "../conversations/participantsSlice";
import { usersFound, usersNamed } from "../people/peopleSlice";

type State = Record<string, Presence | undefined>;

const initialState: State = {};

function setPresence(state: State, { user_id, online, last_seen_at }: Presence): void {
  const current = state[user_id];
  if (current?.online !== online || current.last_seen_at !== last_seen_at)
    state[user_id] = { user_id, online, last_seen_at };
}

/**
 * Store a presence that is part of a larger answer, unless a newer one is known: the answer may have been read before a
 * push that came first. A user's `last_seen_at` never goes back, and the user is online after it.
 */
function setListedPresence(state: State, listed: Presence): void {
  const current = state[listed.user_id];
  if (!current || compareAge(listed, current) >= 0) setPresence(state, listed);
}

function compareAge(a: Presence, b: Presence): number {
  const [seenA, seenB] = [a.last_seen_at ?? "", b.last_seen_at ?? ""];
  return seenA === seenB ? Number(a.online) - Number(b.online) : seenA < seenB ? -1 : 1;
}

function setParticipantPresence(state: State, { participants }: { participants: Participant[] }): void {
  for (const { user, online, last_seen_at } of participants)
    setListedPresence(state, { user_id: user.id, online, last_seen_at });
}

function setFoundPresence(state: State, { users }: { users: FoundUser[] }): void {
  for (const { id, online, last_seen_at } of users) setListedPresence(state, { user_id: id, online, last_seen_at });
}

/** Which users are online, by user id. */
export const presenceSlice = createSlice({
  name: "presence",
  initialState,
  reducers: {
    presenceUpdated(state, { payload }: PayloadAction<Presence>) {
      setPresence(state, payload);
    },
  },
  extraReducers: (builder) => {
    builder
      // Without a connection presence is unknown until the next list of conversations arrives.
      .addCase(connectionLost, (state, { payload }) => (payload.code === "unreachable" ? {} : state))
      .addCase(networkLost, () => ({}))
      .addCase(conversationUpdated, (state, { payload }) => setParticipantPresence(state, payload))
      .addCase(conversationStarted, (state, { payload }) => setParticipantPresence(state, payload.conversation))
      .addCase(conversationsListed, (state, { payload }) => {
        for (const conversation of payload.conversations) setParticipantPresence(state, conversation);
      })
      .addCase(participantsListed, (state, { payload }) => setParticipantPresence(state, payload))
      .addCase(usersFound, (state, { payload }) => setFoundPresence(state, payload))
      .addCase(usersNamed, (state, { payload }) => setFoundPresence(state, payload));
  },
  selectors: {
    /** The last known presence of a user, or nothing while it is unknown. */
    selectPresence: (state, userId: string) => state[userId],
  },
});

export const { presenceUpdated } = presenceSlice.actions;
export const { selectPresence } = presenceSlice.selectors;
