import { createSlice, type PayloadAction } from "@reduxjs/toolkit";
import type { Limits, SessionReady } from "@/protocol";

export type ConnectionStatus = "idle" | "connecting" | "ready" | "draining" | "waiting" | "refused";

export interface ConnectionState {
  status: ConnectionStatus;
  edge: string | null;
  edgeId: string | null;
  /** The time of the next try (waiting) or of the move to another edge (draining), in milliseconds since the epoch. */
  retryAt: number | null;
  reason: { code: string; message: string } | null;
  /** How many `session_ready` events arrived. Each one makes the client load its data again. */
  sessions: number;
  networkDown: boolean;
  limits: Limits | null;
}

export const initialConnection: ConnectionState = {
  status: "idle",
  edge: null,
  edgeId: null,
  retryAt: null,
  reason: null,
  sessions: 0,
  networkDown: false,
  limits: null,
};

export const connectionSlice = createSlice({
  name: "connection",
  initialState: initialConnection,
  reducers: {
    connectionOpening(state, { payload }: PayloadAction<{ edge: string }>) {
      state.status = "connecting";
      state.edge = payload.edge;
      state.retryAt = null;
    },
    sessionReady(state, { payload }: PayloadAction<SessionReady>) {
      state.status = "ready";
      state.edgeId = payload.edge_id;
      state.limits = payload.limits;
      state.sessions += 1;
      state.reason = null;
      state.retryAt = null;
      state.networkDown = false;
    },
    connectionLost(state, { payload }: PayloadAction<{ code: string; message: string; retryAt: number }>) {
      state.status = "waiting";
      state.reason = { code: payload.code, message: payload.message };
      state.retryAt = payload.retryAt;
    },
    connectionRefused(state, { payload }: PayloadAction<{ code: string; message: string }>) {
      state.status = "refused";
      state.reason = payload;
      state.retryAt = null;
    },
    connectionDraining(state, { payload }: PayloadAction<{ closesAt: number }>) {
      state.status = "draining";
      state.retryAt = payload.closesAt;
    },
    /** The user pressed "Try now" or "Try again". */
    retryRequested() {},
    networkLost(state) {
      state.networkDown = true;
    },
    networkReturned(state) {
      state.networkDown = false;
    },
  },
  selectors: {
    selectConnection: (state) => state,
    /** Whether requests can be sent now. */
    selectOnline: (state) => state.status === "ready" || state.status === "draining",
    selectSessions: (state) => state.sessions,
    selectBodyLimit: (state) => state.limits?.max_body_characters ?? 4000,
  },
});

export const {
  connectionOpening,
  sessionReady,
  connectionLost,
  connectionRefused,
  connectionDraining,
  retryRequested,
  networkLost,
  networkReturned,
} = connectionSlice.actions;
export const { selectConnection, selectOnline, selectSessions, selectBodyLimit } = connectionSlice.selectors;
