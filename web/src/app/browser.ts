import { openConversation } from "@/features/conversations/openConversation";
import { windowFocusChanged, conversationClosed, selectOpenId } from "@/features/conversations/screenSlice";
import { networkLost, networkReturned } from "@/features/connection/connectionSlice";
import { draftsRestored } from "@/features/messages/draftsSlice";
import type { AppStore } from "./store";

/** Tell the store whether the person can be looking: tab visible and window focused. Returns its undoing. */
export function watchWindowFocus(store: AppStore): () => void {
  const tell = () => {
    const windowFocused = document.visibilityState === "visible" && document.hasFocus();
    if (windowFocused !== store.getState().screen.windowFocused) store.dispatch(windowFocusChanged(windowFocused));
  };
  tell();
  window.addEventListener("focus", tell);
  window.addEventListener("blur", tell);
  document.addEventListener("visibilitychange", tell);
  return () => {
    window.removeEventListener("focus", tell);
    window.removeEventListener("blur", tell);
    document.removeEventListener("visibilitychange", tell);
  };
}

/** Tell the store when the device loses and regains its network. Returns its undoing. */
export function watchNetwork(store: AppStore): () => void {
  const lost = () => void store.dispatch(networkLost());
  const returned = () => void store.dispatch(networkReturned());
  window.addEventListener("offline", lost);
  window.addEventListener("online", returned);
  return () => {
    window.removeEventListener("offline", lost);
    window.removeEventListener("online", returned);
  };
}

/** Keep drafts over a reload, for this tab and person. Returns its undoing. */
export function keepDrafts(store: AppStore, storage: Storage): () => void {
  const key = (userId: string) => `warren.drafts.${userId}`;
  let user: string | null = null;
  let drafts = store.getState().drafts;

  return store.subscribe(() => {
    const state = store.getState();
    const now = state.auth.user?.id ?? null;
    if (now !== user) {
      user = now;
      drafts = state.drafts;
      const kept = now === null ? null : storage.getItem(key(now));
      if (kept !== null) store.dispatch(draftsRestored(JSON.parse(kept) as Record<string, string>));
    } else if (now !== null && state.drafts !== drafts) {
      drafts = state.drafts;
      storage.setItem(key(now), JSON.stringify(drafts));
    }
  });
}

/** Let the address name the open conversation, so that reload, back and forward do what people expect. */
export function followAddress(store: AppStore): () => void {
  const named = () => new URLSearchParams(window.location.hash.slice(1)).get("c");
  const addressOf = (id: string | null) =>
    window.location.pathname + window.location.search + (id === null ? "" : `#c=${encodeURIComponent(id)}`);

  const open = () => {
    const id = named();
    if (id === selectOpenId(store.getState())) return;
    if (id === null) store.dispatch(conversationClosed());
    else store.dispatch(openConversation(id));
  };
  open();
  let shown = selectOpenId(store.getState());
  window.addEventListener("popstate", open);
  const unsubscribe = store.subscribe(() => {
    const id = selectOpenId(store.getState());
    if (id === shown) return;
    shown = id;
    if (id !== named()) window.history.pushState(null, "", addressOf(id));
  });
  return () => {
    window.removeEventListener("popstate", open);
    unsubscribe();
  };
}
