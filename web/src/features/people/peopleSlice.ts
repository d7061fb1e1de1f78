import { createSlice, type PayloadAction } from "@reduxjs/toolkit";
import type { FoundUser, User } from "@/protocol";
import { userIdentified } from "../auth/authSlice";
import { sessionReady } from "../connection/connectionSlice";
import { conversationsListed, conversationStarted, conversationUpdated } from "../conversations/conversationsSlice";

export interface PeopleState {
  /** Every user whose name the client has received. */
  usersById: Record<string, User | undefined>;
  /** The text in the search field; null while the search is closed. */
  query: string | null;
  /** The query that `resultIds` belongs to. */
  answeredQuery: string | null;
  resultIds: string[];
  error: string | null;
}

export const initialPeople: PeopleState = {
  usersById: {},
  query: null,
  answeredQuery: null,
  resultIds: [],
  error: null,
};

function closeSearch(state: PeopleState): void {
  state.query = null;
  state.answeredQuery = null;
  state.resultIds = [];
  state.error = null;
}

function storeUser(state: PeopleState, { id, name, picture }: User): void {
  const current = state.usersById[id];
  if (current?.name !== name || current.picture !== picture) state.usersById[id] = { id, name, picture };
}

const placeholders = new Map<string, User>();

/** A stable user object for an id without a name: the id is shown instead. */
function placeholderFor(id: string): User {
  let user = placeholders.get(id);
  if (!user) placeholders.set(id, (user = { id, name: id, picture: null }));
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
    searchClosed: closeSearch,
    usersFound(state, { payload }: PayloadAction<{ query: string; users: FoundUser[] }>) {
      for (const user of payload.users) storeUser(state, user);
      if (state.query === null) return;
      state.answeredQuery = payload.query;
      // Online users come first. The order then stays, so that no row moves under the pointer.
      const online = payload.users.filter((user) => user.online);
      const offline = payload.users.filter((user) => !user.online);
      state.resultIds = [...online, ...offline].map(({ id }) => id);
    },
    searchFailed(state, { payload }: PayloadAction<{ query: string; message: string }>) {
      state.answeredQuery = payload.query;
      state.resultIds = [];
      state.error = payload.message;
    },
  },
  extraReducers: (builder) => {
    builder
      .addCase(userIdentified, (state, { payload }) => storeUser(state, payload))
      .addCase(sessionReady, (state, { payload }) => {
        storeUser(state, payload.user);
        state.answeredQuery = null;
      })
      .addCase(conversationUpdated, (state, { payload }) => {
        for (const { user } of payload.participants) storeUser(state, user);
      })
      .addCase(conversationStarted, (state, { payload }) => {
        for (const { user } of payload.conversation.participants) storeUser(state, user);
        closeSearch(state);
      })
      .addCase(conversationsListed, (state, { payload }) => {
        for (const { participants } of payload.conversations)
          for (const { user } of participants) storeUser(state, user);
      });
  },
  selectors: {
    selectPeople: (state) => state,
    /** The user with this id; the id stands in for a name that the client has not received. */
    selectPerson: (state, id: string): User => state.usersById[id] ?? placeholderFor(id),
  },
});

export const { searchChanged, searchClosed, usersFound, searchFailed } = peopleSlice.actions;
export const { selectPeople, selectPerson } = peopleSlice.selectors;
