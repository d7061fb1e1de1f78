import { autoBatchEnhancer, configureStore } from "@reduxjs/toolkit";
import { rootReducer, type RootState } from "./rootReducer";
import { createSocketMiddleware, type SocketDependencies } from "./socketMiddleware";

export type { RootState };

/** The length of a frame in milliseconds. */
const FRAME = 16;

/** Create the store, for the app and for tests. */
export function makeStore(socket: SocketDependencies, preloadedState?: Partial<RootState>) {
  return configureStore({
    reducer: rootReducer,
    // Slices without a preloaded state start with their initial state.
    preloadedState: preloadedState && rootReducer(preloadedState as RootState, { type: "preloaded" }),
    middleware: (getDefaultMiddleware) =>
      getDefaultMiddleware({
        // In development, both checks would walk through all messages after every action.
        immutableCheck: false,
        serializableCheck: { ignoredPaths: ["messages"] },
      }).concat(createSocketMiddleware(socket)),
    // Pushes change the state at once, but subscribers are notified at most once per frame, so that a busy chat does not
    // slow down typing. A timer also works in hidden tabs, where requestAnimationFrame does not run.
    enhancers: (getDefaultEnhancers) =>
      getDefaultEnhancers({ autoBatch: false }).concat(autoBatchEnhancer({ type: "timer", timeout: FRAME })),
  });
}

export type AppStore = ReturnType<typeof makeStore>;
export type AppDispatch = AppStore["dispatch"];
