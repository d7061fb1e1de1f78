import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { backoff } from "./backoff";
import { createDuties } from "./duties";
import { rootReducer } from "./rootReducer";

const state = rootReducer(undefined, { type: "begin" });

describe("duties", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  /** One duty that is due until `done`, and fails as told. */
  function oneDuty(failures: (Error & { retryable?: boolean; retryAfter?: number })[]) {
    const seen = { runs: 0, refused: 0, done: false };
    const duties = createDuties(
      () => state,
      [
        {
          due: () => (seen.done ? [] : ["it"]),
          run: async () => {
            seen.runs += 1;
            const failure = failures.shift();
            await Promise.resolve();
            if (failure) throw failure;
            seen.done = true;
          },
          refused: () => {
            seen.refused += 1;
            seen.done = true;
          },
        },
      ],
      { retryBase: 100, retryCap: 1000 },
    );
    return { seen, duties };
  }

  it("run one at a time, however often they are checked", async () => {
    const { seen, duties } = oneDuty([]);
    duties.check();
    duties.check();
    await vi.runAllTimersAsync();
    expect(seen).toEqual({ runs: 1, refused: 0, done: true });
  });

  it("are tried again with back-off, and not before the server allows", async () => {
    const { seen, duties } = oneDuty([
      new Error("away"),
      Object.assign(new Error("limited"), { retryable: true, retryAfter: 5000 }),
    ]);
    duties.check();
    await vi.advanceTimersByTimeAsync(200);
    expect(seen.runs).toBe(2);
    await vi.advanceTimersByTimeAsync(4000);
    expect(seen.runs).toBe(2);
    await vi.advanceTimersByTimeAsync(2000);
    expect(seen).toEqual({ runs: 3, refused: 0, done: true });
  });

  it("end when refused for good", async () => {
    const { seen, duties } = oneDuty([Object.assign(new Error("no"), { retryable: false })]);
    duties.check();
    await vi.runAllTimersAsync();
    expect(seen).toEqual({ runs: 1, refused: 1, done: true });
  });

  it("are tried at once when things have changed", async () => {
    const { seen, duties } = oneDuty([Object.assign(new Error("limited"), { retryable: true, retryAfter: 60_000 })]);
    duties.check();
    await vi.advanceTimersByTimeAsync(1);
    duties.reset();
    duties.check();
    await vi.advanceTimersByTimeAsync(1);
    expect(seen.done).toBe(true);
  });
});

it("backs off twice as long each time, up to the cap, the upper half at random", () => {
  const waits = (random: number) => [0, 1, 2, 3, 60].map((attempt) => backoff(attempt, 100, 500, () => random));
  expect(waits(0)).toEqual([50, 100, 200, 250, 250]);
  expect(waits(1)).toEqual([100, 200, 400, 500, 500]);
});
