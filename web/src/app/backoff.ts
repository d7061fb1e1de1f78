/** Milliseconds to wait before try number `attempt` (from 0): doubling up to `cap`, the upper half of it random. */
export function backoff(attempt: number, base: number, cap: number, random: () => number): number {
  const ceiling = Math.min(cap, base * 2 ** Math.min(attempt, 30));
  return Math.round(ceiling / 2 + (random() * ceiling) / 2);
}
