import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { backoff } from "./backoff";
import { createEffectRunner } from "./effectRunner";
import { rootReducer } from "./rootReducer";

const state = rootReducer(undefined, { type: "init" });

describe("createEffectRunner", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  /** A runner with one effect that throws the given errors and then succeeds. */
  function runnerWithOneEffect(failures: (Error & { retryable?: boolean; retryAfter?: number })[]) {
    const seen = { runs: 0, failures: 0, done: false };
    const runner = createEffectRunner(
      () => state,
      [
        {
          pending: () => (seen.done ? [] : ["key"]),
          run: async () => {
            seen.runs += 1;
            const failure = failures.shift();
            await Promise.resolve();
            if (failure) throw failure;
            seen.done = true;
          },
          onFailure: () => {
            seen.failures += 1;
            seen.done = true;
          },
        },
      ],
      { retryBase: 100, retryCap: 1000 },
    );
    return { seen, runner };
  }

  it("runs an effect once at a time", async () => {
    const { seen, runner } = runnerWithOneEffect([]);
    runner.runPending();
    runner.runPending();
    await vi.runAllTimersAsync();
    expect(seen).toEqual({ runs: 1, failures: 0, done: true });
  });

  it("retries with back-off and waits for retryAfter", async () => {
    const { seen, runner } = runnerWithOneEffect([
      new Error("offline"),
      Object.assign(new Error("limited"), { retryable: true, retryAfter: 5000 }),
    ]);
    runner.runPending();
    await vi.advanceTimersByTimeAsync(200);
    expect(seen.runs).toBe(2);
    await vi.advanceTimersByTimeAsync(4000);
    expect(seen.runs).toBe(2);
    await vi.advanceTimersByTimeAsync(2000);
    expect(seen).toEqual({ runs: 3, failures: 0, done: true });
  });

  it("does not retry an error that is not retryable", async () => {
    const { seen, runner } = runnerWithOneEffect([Object.assign(new Error("no"), { retryable: false })]);
    runner.runPending();
    await vi.runAllTimersAsync();
    expect(seen).toEqual({ runs: 1, failures: 1, done: true });
  });

  it("runs a waiting effect at once after a reset", async () => {
    const { seen, runner } = runnerWithOneEffect([
      Object.assign(new Error("limited"), { retryable: true, retryAfter: 60_000 }),
    ]);
    runner.runPending();
    await vi.advanceTimersByTimeAsync(1);
    runner.reset();
    runner.runPending();
    await vi.advanceTimersByTimeAsync(1);
    expect(seen.done).toBe(true);
  });
});

describe("backoff", () => {
  it("doubles up to the cap and picks a random value in the upper half", () => {
    const waits = (random: number) => [0, 1, 2, 3, 60].map((attempt) => backoff(attempt, 100, 500, () => random));
    expect(waits(0)).toEqual([50, 100, 200, 250, 250]);
    expect(waits(1)).toEqual([100, 200, 400, 500, 500]);
  });
});
