/** Milliseconds to wait before retry `attempt` (from 0): it doubles up to `cap`, and its upper half is random. */
export function backoff(attempt: number, base: number, cap: number, random: () => number): number {
  const ceiling = Math.min(cap, base * 2 ** Math.min(attempt, 30));
  return Math.round(ceiling / 2 + (random() * ceiling) / 2);
}
