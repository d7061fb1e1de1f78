import { autoBatchEnhancer, configureStore } from "@reduxjs/toolkit";
import { rootReducer, type RootState } from "./rootReducer";
import { createSocketMiddleware, type SocketDependencies } from "./socketMiddleware";

export type { RootState };

/** Milliseconds between two frames. */
const FRAME = 16;

/** Build a store: the app with its real dependencies and tests with theirs go the same way. */
export function makeStore(socket: SocketDependencies, preloadedState?: Partial<RootState>) {
  return configureStore({
    reducer: rootReducer,
    // Slices that are not given begin as they always do.
    preloadedState: preloadedState && rootReducer(preloadedState as RootState, { type: "preloaded" }),
    middleware: (getDefaultMiddleware) =>
      getDefaultMiddleware({
        // Both walk through all the messages held after every action, in development only.
        immutableCheck: false,
        serializableCheck: { ignoredPaths: ["messages"] },
      }).concat(createSocketMiddleware(socket)),
    // Pushes change the state at once, but the page is told of them together, once per frame: a lively chat must leave
    // time for typing. A timer does it in hidden tabs too, where there are no frames.
    enhancers: (getDefaultEnhancers) =>
      getDefaultEnhancers({ autoBatch: false }).concat(autoBatchEnhancer({ type: "timer", timeout: FRAME })),
  });
}

export type AppStore = ReturnType<typeof makeStore>;
export type AppDispatch = AppStore["dispatch"];
