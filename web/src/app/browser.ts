import { openConversation } from "@/features/conversations/openConversation";
import { windowFocusChanged, conversationClosed, selectOpenId } from "@/features/conversations/screenSlice";
import { networkLost, networkReturned } from "@/features/connection/connectionSlice";
import { draftsRestored } from "@/features/messages/draftsSlice";
import type { AppStore } from "./store";

/** Keep the store informed whether the tab is visible and focused. Returns a function that stops this. */
export function watchWindowFocus(store: AppStore): () => void {
  const update = () => {
    const windowFocused = document.visibilityState === "visible" && document.hasFocus();
    if (windowFocused !== store.getState().screen.windowFocused) store.dispatch(windowFocusChanged(windowFocused));
  };
  update();
  window.addEventListener("focus", update);
  window.addEventListener("blur", update);
  document.addEventListener("visibilitychange", update);
  return () => {
    window.removeEventListener("focus", update);
    window.removeEventListener("blur", update);
    document.removeEventListener("visibilitychange", update);
  };
}

/** Tell the store when the browser goes offline and online. Returns a function that stops this. */
export function watchNetwork(store: AppStore): () => void {
  const onOffline = () => void store.dispatch(networkLost());
  const onOnline = () => void store.dispatch(networkReturned());
  window.addEventListener("offline", onOffline);
  window.addEventListener("online", onOnline);
  return () => {
    window.removeEventListener("offline", onOffline);
    window.removeEventListener("online", onOnline);
  };
}

/** Save drafts, per user and tab, so that they survive a reload. Returns a function that stops this. */
export function persistDrafts(store: AppStore, storage: Storage): () => void {
  const key = (userId: string) => `warren.drafts.${userId}`;
  let user: string | null = null;
  let drafts = store.getState().drafts;

  return store.subscribe(() => {
    const state = store.getState();
    const currentUser = state.auth.user?.id ?? null;
    if (currentUser !== user) {
      user = currentUser;
      drafts = state.drafts;
      const saved = currentUser === null ? null : storage.getItem(key(currentUser));
      if (saved !== null) store.dispatch(draftsRestored(JSON.parse(saved) as Record<string, string>));
    } else if (currentUser !== null && state.drafts !== drafts) {
      drafts = state.drafts;
      storage.setItem(key(currentUser), JSON.stringify(drafts));
    }
  });
}

/** Keep the open conversation in the URL, for reload, back and forward. Returns a function that stops this. */
export function syncUrl(store: AppStore): () => void {
  const idInUrl = () => new URLSearchParams(window.location.hash.slice(1)).get("c");
  const urlFor = (id: string | null) =>
    window.location.pathname + window.location.search + (id === null ? "" : `#c=${encodeURIComponent(id)}`);

  const openFromUrl = () => {
    const id = idInUrl();
    if (id === selectOpenId(store.getState())) return;
    if (id === null) store.dispatch(conversationClosed());
    else store.dispatch(openConversation(id));
  };
  openFromUrl();
  let shown = selectOpenId(store.getState());
  window.addEventListener("popstate", openFromUrl);
  const unsubscribe = store.subscribe(() => {
    const id = selectOpenId(store.getState());
    if (id === shown) return;
    shown = id;
    if (id !== idInUrl()) window.history.pushState(null, "", urlFor(id));
  });
  return () => {
    window.removeEventListener("popstate", openFromUrl);
    unsubscribe();
  };
}
