import type { RootState } from "./rootReducer";
import { backoff } from "./backoff";

/** Work that the state calls for, such as a request to the server, until the state shows that it is done. */
export interface Effect {
  /** The keys of the runs that are due in this state. Only one run per key is active at a time. */
  pending: (state: RootState) => string[];
  run: (key: string) => Promise<void>;
  /** Handles an error that must not be retried. Without a handler, the key is not run again until `reset`. */
  onFailure?: (error: Error, key: string) => void;
}

/** Optional properties of an error thrown by `run`: whether and when to try again. The default is to retry. */
export interface RetryHint {
  retryable?: boolean;
  /** Milliseconds to wait at least. */
  retryAfter?: number;
}

interface RetryOptions {
  /** First and longest wait between two tries, in milliseconds. */
  retryBase: number;
  retryCap: number;
}

/** Runs effects whenever `runPending` finds them due, and retries failed ones with back-off. */
export function createEffectRunner(
  getState: () => RootState,
  effects: Effect[],
  { retryBase, retryCap }: RetryOptions,
) {
  const running = new Set<string>();
  const failed = new Set<string>();
  const retryTimers = new Map<string, ReturnType<typeof setTimeout>>();
  const failureCounts = new Map<string, number>();

  function runPending(): void {
    const state = getState();
    for (const effect of effects)
      for (const key of effect.pending(state))
        if (!running.has(key) && !retryTimers.has(key) && !failed.has(key)) void run(effect, key);
  }

  async function run(effect: Effect, key: string): Promise<void> {
    running.add(key);
    try {
      await effect.run(key);
      failureCounts.delete(key);
    } catch (error) {
      const { retryable = true, retryAfter = 0 } = error as RetryHint;
      if (retryable) scheduleRetry(key, retryAfter);
      else if (effect.onFailure) effect.onFailure(error as Error, key);
      else failed.add(key);
    }
    running.delete(key);
    runPending();
  }

  function scheduleRetry(key: string, minimumDelay: number): void {
    const attempt = failureCounts.get(key) ?? 0;
    failureCounts.set(key, attempt + 1);
    const delay = Math.max(minimumDelay, backoff(attempt, retryBase, retryCap, Math.random));
    const retry = () => {
      retryTimers.delete(key);
      runPending();
    };
    retryTimers.set(key, setTimeout(retry, delay));
  }

  /** Forget all failures and waits, so that the next `runPending` tries every pending effect at once. */
  function reset(): void {
    for (const timer of retryTimers.values()) clearTimeout(timer);
    retryTimers.clear();
    failureCounts.clear();
    failed.clear();
  }

  return { runPending, reset };
}
