import type { Identity } from "./authSlice";

const KEY = "warren.identity";

/** Who this tab is, kept over a reload. By tab, so that one browser can be several people. */
export function rememberIdentity(identity: Identity | null): void {
  if (identity) sessionStorage.setItem(KEY, JSON.stringify(identity));
  else sessionStorage.removeItem(KEY);
}

export function rememberedIdentity(): Identity | null {
  try {
    return JSON.parse(sessionStorage.getItem(KEY) ?? "null") as Identity | null;
  } catch {
    return null;
  }
}
