import type { Identity } from "./authSlice";

const KEY = "warren.identity";

/** Save the identity of this tab for a reload. Each tab has its own, so that one browser can use several accounts. */
export function saveIdentity(identity: Identity | null): void {
  if (identity) sessionStorage.setItem(KEY, JSON.stringify(identity));
  else sessionStorage.removeItem(KEY);
}

export function loadIdentity(): Identity | null {
  try {
    return JSON.parse(sessionStorage.getItem(KEY) ?? "null") as Identity | null;
  } catch {
    return null;
  }
}
