import "@fontsource-variable/inter";
import "@fontsource/jetbrains-mono/latin-400.css";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Provider } from "react-redux";
import { App } from "./app/App";
import { syncUrl, persistDrafts, watchWindowFocus, watchNetwork } from "./app/browser";
import { findEdges } from "./app/edges";
import { createOutboxStorage } from "./app/outboxStorage";
import { makeStore } from "./app/store";
import { initialAuth, signedIn } from "./features/auth/authSlice";
import { loadIdentity } from "./features/auth/identity";
import { developmentTokens, hostedTokens } from "./features/auth/tokens";
import { applyTheme } from "./ui/theme";
import "./styles/index.css";

async function start(root: HTMLElement): Promise<void> {
  applyTheme();
  const hosted = window.WARREN_TOKEN;
  const edges = await findEdges(hosted === undefined);
  const store = makeStore(
    {
      edges: () => edges,
      token: hosted ? hostedTokens(hosted) : developmentTokens(() => edges, sessionStorage),
      outbox: createOutboxStorage(localStorage),
    },
    { auth: { ...initialAuth, mode: hosted ? "hosted" : "development" } },
  );
  watchWindowFocus(store);
  watchNetwork(store);
  persistDrafts(store, sessionStorage);
  syncUrl(store);
  const identity = loadIdentity();
  if (hosted || identity) store.dispatch(signedIn(hosted ? null : identity));

  createRoot(root).render(
    <StrictMode>
      <Provider store={store}>
        <App />
      </Provider>
    </StrictMode>,
  );
}

const root = document.getElementById("root");
if (root) void start(root);
