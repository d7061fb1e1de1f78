/** Waits and limits of the connection to the server, in milliseconds. */
export interface Timing {
  /** How long to wait for an ack, and for `session_ready` on a new connection. */
  ackTimeout: number;
  /** First and longest wait between two tries. */
  retryBase: number;
  retryCap: number;
  /** Longest random wait before moving to another edge, so that clients that lost an edge do not all move at once. */
  failoverJitter: number;
  /** After a connection this long, the next loss starts with short waits again. */
  stableAfter: number;
  /** How long to wait for the push of a missing message before fetching it. */
  gapDelay: number;
  /** Debounce of the people search. */
  searchDebounce: number;
  /** Shortest time between two typing notifications. */
  typingInterval: number;
  /** How long after the last key press this user counts as typing. */
  typingIdle: number;
  /** How long after the last notification another user counts as typing. */
  typingTimeout: number;
}

export const TIMING: Timing = {
  ackTimeout: 10_000,
  retryBase: 500,
  retryCap: 15_000,
  failoverJitter: 600,
  stableAfter: 3_000,
  gapDelay: 150,
  searchDebounce: 150,
  typingInterval: 3_000,
  typingIdle: 4_000,
  typingTimeout: 7_000,
};
