import { configureStore } from "@reduxjs/toolkit";
import { rootReducer, type RootState } from "./rootReducer";
import { createSocketMiddleware, type SocketDependencies } from "./socketMiddleware";

export type { RootState };

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
  });
}

export type AppStore = ReturnType<typeof makeStore>;
export type AppDispatch = AppStore["dispatch"];
