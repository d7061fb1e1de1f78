import type { Identity } from "./authSlice";

/** Provides a token. `fresh` asks for a new one, because the previous token has expired or was rejected. */
export type TokenProvider = (options: { identity: Identity | null; fresh: boolean }) => Promise<string>;

/** The function that the host application defines: see "Signing in" in web/README.md. */
export type HostedTokenProvider = (options: { fresh: boolean }) => string | Promise<string>;

declare global {
  interface Window {
    WARREN_TOKEN?: HostedTokenProvider;
    WARREN_EDGES?: string[];
  }
}

/** There is no token, and asking again would not help: the name was rejected, or development sign-in is off. */
export class TokenRefused extends Error {}

/** The claims of a token. The client does not verify them; the server does. */
export interface Claims {
  sub: string;
  exp?: number;
  name?: string;
  picture?: string;
}

/** Read a token's claims; returns null if it is not a JWT. */
export function claimsOf(token: string): Claims | null {
  try {
    const part = (token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(part), (character) => character.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes)) as Partial<Claims>;
    return typeof claims.sub === "string" ? (claims as Claims) : null;
  } catch {
    return null;
  }
}

/** Tokens from the host application. */
export function hostedTokens(provider: HostedTokenProvider): TokenProvider {
  return async ({ fresh }) => {
    const token: unknown = await provider({ fresh });
    if (typeof token !== "string" || token === "") throw new TokenRefused("The application didn’t provide a token.");
    return token;
  };
}

/** Tokens from the development sign-in of the first edge that answers, stored until a minute before they expire. */
export function developmentTokens(edges: () => string[], storage: Storage): TokenProvider {
  const key = (identity: Identity) => `warren.token.${identity.user_id}`;

  const storedToken = (identity: Identity): string | null => {
    const token = storage.getItem(key(identity));
    const expires = (token && claimsOf(token)?.exp) || 0;
    return token !== null && expires * 1000 > Date.now() + 60_000 ? token : null;
  };

  const requestToken = async (edge: string, identity: Identity): Promise<string> => {
    const response = await fetch(new URL("/dev/token", edge), {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(identity),
      signal: AbortSignal.timeout(10_000),
    });
    if (response.status >= 400 && response.status < 500)
      throw new TokenRefused("This server doesn’t offer development sign-in, or it rejected this name.");
    if (!response.ok) throw new Error(`Sign-in failed with status ${response.status}.`);
    const { token } = (await response.json()) as { token: string };
    storage.setItem(key(identity), token);
    return token;
  };

  return async ({ identity, fresh }) => {
    if (!identity) throw new TokenRefused("Enter a name first.");
    const token = fresh ? null : storedToken(identity);
    if (token !== null) return token;
    let failure: unknown = new Error("No server is configured.");
    for (const edge of edges()) {
      try {
        return await requestToken(edge, identity);
      } catch (error) {
        if (error instanceof TokenRefused) throw error;
        failure = error;
      }
    }
    throw failure;
  };
}

/** The user id for a name in the development sign-in. The same name gives the same user on every device. */
export function userIdFor(name: string): string {
  const slug = name
    .normalize("NFKD")
    .replace(/\p{M}/gu, "")
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, "-")
    .replace(/^-+|-+$/g, "");
  return Array.from(slug).slice(0, 64).join("");
}
