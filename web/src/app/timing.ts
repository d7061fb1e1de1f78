export interface Timing {
  /** Milliseconds until a request without an ack counts as timed out, and a connection without `session_ready` as failed. */
  ack: number;
  /** First and longest wait between two tries, in milliseconds. */
  retryBase: number;
  retryCap: number;
  /** Longest wait before moving to another edge after losing one: spreads those who lost it together. */
  failover: number;
  /** A connection that held for this long was a good one: the next loss starts with short waits again. */
  steady: number;
  /** How long a missing message may still come by itself before it is fetched. */
  gapPatience: number;
  /** How long the total of unread messages may disagree with its parts before it is asked for. */
  totalPatience: number;
  /** How long a search waits for the next letter. */
  searchPause: number;
  /** Typing is told at most this often, and ends after the idle time (one's own) or the silence (others'). */
  typingEvery: number;
  typingIdle: number;
  typingSilence: number;
}

export const TIMING: Timing = {
  ack: 10_000,
  retryBase: 500,
  retryCap: 15_000,
  failover: 600,
  steady: 3_000,
  gapPatience: 150,
  totalPatience: 1_000,
  searchPause: 150,
  typingEvery: 3_000,
  typingIdle: 4_000,
  typingSilence: 7_000,
};
