import type { RootState } from "./rootReducer";
import { backoff } from "./backoff";

/** What has to be asked of the server, read off the state, until the state says that it is done. */
export interface Duty {
  /** The keys of what is due now: one of each key runs at a time. */
  due: (state: RootState) => string[];
  run: (key: string) => Promise<void>;
  /** The server said no for good. Without an answer here, the key rests until the next session. */
  refused?: (error: Error, key: string) => void;
}

/** What `run` may throw to say whether and when to try again; anything else counts as retryable. */
export interface Failure {
  retryable?: boolean;
  retryAfter?: number;
}

interface Retry {
  /** First and longest wait between two tries, in milliseconds. */
  retryBase: number;
  retryCap: number;
}

/** Carries out what is due whenever `check` is called, one of each key at a time, with back-off after a failure. */
export function createDuties(getState: () => RootState, duties: Duty[], { retryBase, retryCap }: Retry) {
  const running = new Set<string>();
  const resting = new Set<string>();
  const waiting = new Map<string, ReturnType<typeof setTimeout>>();
  const failures = new Map<string, number>();

  function check(): void {
    const state = getState();
    for (const duty of duties)
      for (const key of duty.due(state))
        if (!running.has(key) && !waiting.has(key) && !resting.has(key)) void carryOut(duty, key);
  }

  async function carryOut(duty: Duty, key: string): Promise<void> {
    running.add(key);
    try {
      await duty.run(key);
      failures.delete(key);
    } catch (error) {
      const { retryable = true, retryAfter = 0 } = error as Failure;
      if (retryable) wait(key, retryAfter);
      else if (duty.refused) duty.refused(error as Error, key);
      else resting.add(key);
    }
    running.delete(key);
    check();
  }

  function wait(key: string, atLeast: number): void {
    const attempt = failures.get(key) ?? 0;
    failures.set(key, attempt + 1);
    const delay = Math.max(atLeast, backoff(attempt, retryBase, retryCap, Math.random));
    const again = () => {
      waiting.delete(key);
      check();
    };
    waiting.set(key, setTimeout(again, delay));
  }

  /** Forget every wait: things have changed, so everything due is worth a try at once. */
  function reset(): void {
    for (const timer of waiting.values()) clearTimeout(timer);
    waiting.clear();
    failures.clear();
    resting.clear();
  }

  return { check, reset };
}
