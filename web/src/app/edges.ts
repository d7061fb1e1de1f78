/**
 * The addresses of the edges. In production the host application lists them in `window.WARREN_EDGES`, or the page's
 * own origin is the only one. In development `?edge=` names them, or `/dev/config` does. `?edge=` is never heeded where
 * the host hands over tokens: a link must not be able to send someone's token elsewhere.
 */
export async function findEdges(development: boolean): Promise<string[]> {
  if (window.WARREN_EDGES?.length) return window.WARREN_EDGES;
  const here = window.location.origin;
  if (!development) return [here];
  const named = new URLSearchParams(window.location.search)
    .getAll("edge")
    .flatMap((value) => value.split(","))
    .filter((value) => URL.canParse(value));
  if (named.length > 0) return named;
  return [here, ...(await configured()).filter((edge) => edge !== here)];
}

async function configured(): Promise<string[]> {
  try {
    const response = await fetch("/dev/config", { signal: AbortSignal.timeout(2_000) });
    if (!response.ok) return [];
    const { edges } = (await response.json()) as { edges?: string[] };
    return edges ?? [];
  } catch {
    return [];
  }
}
