import { createSlice, type PayloadAction } from "@reduxjs/toolkit";
import type { User } from "@/protocol";
import { sessionReady } from "../connection/connectionSlice";

/** The user that the development sign-in asks a token for. A hosted page gets the user from its token. */
export interface Identity {
  user_id: string;
  name: string;
}

export interface AuthState {
  /** `hosted`: the host application provides tokens. `development`: the user enters any name. */
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
    /** The user or the host application signs in. The socket middleware then connects. */
    signedIn(state, { payload }: PayloadAction<Identity | null>) {
      state.signedIn = true;
      state.identity = payload;
    },
    /** The user signs out. The root reducer then clears the state. */
    signedOut(state) {
      state.signedIn = false;
      state.identity = null;
      state.user = null;
    },
    /** The token shows which user this is. */
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
