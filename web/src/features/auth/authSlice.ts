import { createSlice, type PayloadAction } from "@reduxjs/toolkit";
import type { User } from "@/protocol";
import { sessionReady } from "../connection/connectionSlice";

/** Who the development sign-in says one is; a hosted page gets its identity with its token. */
export interface Identity {
  user_id: string;
  name: string;
}

export interface AuthState {
  /** `hosted`: the host application hands tokens over. `development`: anyone picks a name. */
  mode: "development" | "hosted";
  signedIn: boolean;
  identity: Identity | null;
  user: User | null;
}

export const initialAuth: AuthState = { mode: "development", signedIn: false, identity: null, user: null };

export const authSlice = createSlice({
  name: "auth",
  initialState: initialAuth,
  reducers: {
    /** The person (or the host application) wants a session; the socket middleware opens it. */
    signedIn(state, { payload }: PayloadAction<Identity | null>) {
      state.signedIn = true;
      state.identity = payload;
    },
    /** Everything the store holds about a person is forgotten: see the root reducer. */
    signedOut(state) {
      state.signedIn = false;
      state.identity = null;
      state.user = null;
    },
    /** A token, or the server itself, has told who this is. */
    userIdentified(state, { payload }: PayloadAction<User>) {
      state.user = payload;
    },
  },
  extraReducers: (builder) => {
    builder.addCase(sessionReady, (state, { payload }) => {
      state.user = payload.user;
    });
  },
  selectors: {
    selectAuth: (state) => state,
    selectMe: (state) => state.user?.id ?? null,
    selectUser: (state) => state.user,
  },
});

export const { signedIn, signedOut, userIdentified } = authSlice.actions;
export const { selectAuth, selectMe, selectUser } = authSlice.selectors;
