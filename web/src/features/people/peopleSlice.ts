import { createSlice, type PayloadAction } from "@reduxjs/toolkit";
import type { FoundUser, User } from "@/protocol";
import { userIdentified } from "../auth/authSlice";
import { sessionReady } from "../connection/connectionSlice";
import { conversationsListed, conversationStarted, conversationUpdated } from "../conversations/conversationsSlice";

export interface PeopleState {
  /** Everyone whose name is known, by id. */
  known: Record<string, User | undefined>;
  /** What is being looked for; null while the search is closed. */
  query: string | null;
  /** The query that `found` answers. */
  answered: string | null;
  found: string[];
  error: string | null;
}

export const initialPeople: PeopleState = { known: {}, query: null, answered: null, found: [], error: null };

function close(state: PeopleState): void {
  state.query = null;
  state.answered = null;
  state.found = [];
  state.error = null;
}

function know(state: PeopleState, { id, name, picture }: User): void {
  const held = state.known[id];
  if (held?.name !== name || held.picture !== picture) state.known[id] = { id, name, picture };
}

const strangers = new Map<string, User>();

/** Someone whose name never reached this client: shown by id. */
function unknownPerson(id: string): User {
  let user = strangers.get(id);
  if (!user) strangers.set(id, (user = { id, name: id, picture: null }));
  return user;
}

export const peopleSlice = createSlice({
  name: "people",
  initialState: initialPeople,
  reducers: {
    searchChanged(state, { payload }: PayloadAction<string>) {
      state.query = payload;
      state.error = null;
    },
    searchClosed: close,
    usersFound(state, { payload }: PayloadAction<{ query: string; users: FoundUser[] }>) {
      for (const user of payload.users) know(state, user);
      if (state.query === null) return;
      state.answered = payload.query;
      // Those who can answer now come first; the order then holds, so that nothing moves under the pointer.
      const online = payload.users.filter((user) => user.online);
      const away = payload.users.filter((user) => !user.online);
      state.found = [...online, ...away].map(({ id }) => id);
    },
    searchFailed(state, { payload }: PayloadAction<{ query: string; message: string }>) {
      state.answered = payload.query;
      state.found = [];
      state.error = payload.message;
    },
  },
  extraReducers: (builder) => {
    builder
      .addCase(userIdentified, (state, { payload }) => know(state, payload))
      .addCase(sessionReady, (state, { payload }) => {
        know(state, payload.user);
        state.answered = null;
      })
      .addCase(conversationUpdated, (state, { payload }) => {
        for (const { user } of payload.participants) know(state, user);
      })
      .addCase(conversationStarted, (state, { payload }) => {
        for (const { user } of payload.conversation.participants) know(state, user);
        close(state);
      })
      .addCase(conversationsListed, (state, { payload }) => {
        for (const { participants } of payload.conversations) for (const { user } of participants) know(state, user);
      });
  },
  selectors: {
    selectPeople: (state) => state,
    /** A user by id, also one whose name is not known. */
    selectPerson: (state, id: string): User => state.known[id] ?? unknownPerson(id),
  },
});

export const { searchChanged, searchClosed, usersFound, searchFailed } = peopleSlice.actions;
export const { selectPeople, selectPerson } = peopleSlice.selectors;
