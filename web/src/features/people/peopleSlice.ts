import { createSlice, type PayloadAction } from "@reduxjs/toolkit";
import type { Conversation, FoundUser, MessagePage, User } from "@/protocol";
import { userIdentified } from "../auth/authSlice";
import { sessionReady } from "../connection/connectionSlice";
import {
  conversationsListed,
  conversationStarted,
  conversationUpdated,
  seenByOther,
} from "../conversations/conversationsSlice";
import { participantsListed } from "../conversations/participantsSlice";
import { messageReceived } from "../messages/messageEvents";
import { newerLoaded, newestLoaded, olderLoaded } from "../messages/messagesSlice";
import { typingChanged } from "../typing/typingSlice";

export interface PeopleState {
  /** Every user whose name the client has received. */
  usersById: Record<string, User | undefined>;
  /** The ids of users whom the client has met and has no name of. The server is asked for each once. */
  unnamedIds: string[];
  /** The text in the search field; null while the search is closed. */
  query: string | null;
  /** The query that `resultIds` belongs to. */
  answeredQuery: string | null;
  resultIds: string[];
  error: string | null;
}

export const initialPeople: PeopleState = {
  usersById: {},
  unnamedIds: [],
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

/** Note that the name of this user is missing, unless it is known. */
function meet(state: PeopleState, id: string | undefined): void {
  if (id !== undefined && !state.usersById[id] && !state.unnamedIds.includes(id)) state.unnamedIds.push(id);
}

function meetSenders(state: PeopleState, { messages }: Pick<MessagePage, "messages">): void {
  for (const { sender_id } of messages) meet(state, sender_id);
}

/** Store the participants that a conversation shows, and note its last sender, who may be another one. */
function storeParticipants(state: PeopleState, { participants, last_message }: Conversation): void {
  for (const { user } of participants) storeUser(state, user);
  meet(state, last_message?.sender_id);
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
    /** The answer for these ids. Whoever the server does not know is shown by the id, and not asked for again. */
    usersNamed(state, { payload }: PayloadAction<{ asked: string[]; users: FoundUser[] }>) {
      for (const user of payload.users) storeUser(state, user);
      for (const id of payload.asked) state.usersById[id] ??= { id, name: id, picture: null };
      state.unnamedIds = state.unnamedIds.filter((id) => !state.usersById[id]);
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
      .addCase(conversationUpdated, (state, { payload }) => storeParticipants(state, payload))
      .addCase(conversationStarted, (state, { payload }) => {
        storeParticipants(state, payload.conversation);
        closeSearch(state);
      })
      .addCase(conversationsListed, (state, { payload }) => {
        for (const conversation of payload.conversations) storeParticipants(state, conversation);
      })
      .addCase(participantsListed, (state, { payload }) => {
        for (const { user } of payload.participants) storeUser(state, user);
      })
      .addCase(messageReceived, (state, { payload }) => meet(state, payload.sender_id))
      .addCase(newestLoaded, (state, { payload }) => meetSenders(state, payload))
      .addCase(newerLoaded, (state, { payload }) => meetSenders(state, payload))
      .addCase(olderLoaded, (state, { payload }) => meetSenders(state, payload))
      .addCase(typingChanged, (state, { payload }) => meet(state, payload.user_id))
      .addCase(seenByOther, (state, { payload }) => meet(state, payload.user_id));
  },
  selectors: {
    selectPeople: (state) => state,
    /** Users to ask the server for: the next whose names are still missing. */
    selectUnnamed: ({ unnamedIds, usersById }): string[] => unnamedIds.filter((id) => !usersById[id]),
    /** The user with this id; the id stands in for a name that the client has not received. */
    selectPerson: (state, id: string): User => state.usersById[id] ?? placeholderFor(id),
  },
});

export const { searchChanged, searchClosed, usersFound, usersNamed, searchFailed } = peopleSlice.actions;
export const { selectPeople, selectPerson, selectUnnamed } = peopleSlice.selectors;
