import type { Identity } from "./authSlice";

/** Hands over a token. `fresh` asks for one that was not handed over before, because that one is expired or refused. */
export type TokenProvider = (options: { identity: Identity | null; fresh: boolean }) => Promise<string>;

/** What the host application defines: see "Signing in" in web/README.md. */
export type HostedTokenProvider = (options: { fresh: boolean }) => string | Promise<string>;

declare global {
  interface Window {
    WARREN_TOKEN?: HostedTokenProvider;
    WARREN_EDGES?: string[];
  }
}

/** Raised when asking again would not help: the name was refused, or there is no development sign-in here. */
export class TokenRefused extends Error {}

/** The claims of a token, unchecked: only the server's opinion of them counts. */
export interface Claims {
  sub: string;
  exp?: number;
  name?: string;
  picture?: string;
}

/** Read a token's claims, or nothing when it isn't a JWT. */
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

export function hostedTokens(provider: HostedTokenProvider): TokenProvider {
  return async ({ fresh }) => {
    const token: unknown = await provider({ fresh });
    if (typeof token !== "string" || token === "") throw new TokenRefused("The application gave no token.");
    return token;
  };
}

/** Tokens of the development sign-in: from whichever edge answers, kept until a minute before they expire. */
export function developmentTokens(edges: () => string[], storage: Storage): TokenProvider {
  const key = (identity: Identity) => `warren.token.${identity.user_id}`;

  const kept = (identity: Identity): string | null => {
    const token = storage.getItem(key(identity));
    const expires = (token && claimsOf(token)?.exp) || 0;
    return token !== null && expires * 1000 > Date.now() + 60_000 ? token : null;
  };

  const ask = async (edge: string, identity: Identity): Promise<string> => {
    const response = await fetch(new URL("/dev/token", edge), {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(identity),
      signal: AbortSignal.timeout(10_000),
    });
    if (response.status >= 400 && response.status < 500)
      throw new TokenRefused("This server has no development sign-in, or refuses this name.");
    if (!response.ok) throw new Error(`The sign-in answered ${response.status}.`);
    const { token } = (await response.json()) as { token: string };
    storage.setItem(key(identity), token);
    return token;
  };

  return async ({ identity, fresh }) => {
    if (!identity) throw new TokenRefused("Pick a name first.");
    const token = fresh ? null : kept(identity);
    if (token !== null) return token;
    let failure: unknown = new Error("No edge is known.");
    for (const edge of edges()) {
      try {
        return await ask(edge, identity);
      } catch (error) {
        if (error instanceof TokenRefused) throw error;
        failure = error;
      }
    }
    throw failure;
  };
}

/** The id that a name gets in development: the same name is the same person on every device. */
export function userIdFor(name: string): string {
  const slug = name
    .normalize("NFKD")
    .replace(/\p{M}/gu, "")
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, "-")
    .replace(/^-+|-+$/g, "");
  return Array.from(slug).slice(0, 64).join("");
}
