/**
 * The URLs of the edges. In production they come from `window.WARREN_EDGES` or are the page's own origin. In development
 * they come from `?edge=` or `/dev/config`. In production `?edge=` is ignored, so that no link can make the page send a
 * token to another server.
 */
export async function findEdges(development: boolean): Promise<string[]> {
  if (window.WARREN_EDGES?.length) return window.WARREN_EDGES;
  const origin = window.location.origin;
  if (!development) return [origin];
  const fromQuery = new URLSearchParams(window.location.search)
    .getAll("edge")
    .flatMap((value) => value.split(","))
    .filter((value) => URL.canParse(value));
  if (fromQuery.length > 0) return fromQuery;
  return [origin, ...(await fetchConfiguredEdges()).filter((edge) => edge !== origin)];
}

async function fetchConfiguredEdges(): Promise<string[]> {
  try {
    const response = await fetch("/dev/config", { signal: AbortSignal.timeout(2_000) });
    if (!response.ok) return [];
    const { edges } = (await response.json()) as { edges?: string[] };
    return edges ?? [];
  } catch {
    return [];
  }
}
