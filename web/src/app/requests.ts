import type { Commands, Error as ErrorBody } from "@/protocol";

/** Ask the server for something; rejects with `Refused`. */
export type Request = <Event extends keyof Commands>(
  event: Event,
  payload: Commands[Event]["payload"],
) => Promise<Commands[Event]["data"]>;

/** Raised when the server, or the lack of one, says no. */
export class Refused extends Error {
  constructor(readonly error: ErrorBody) {
    super(error.message);
  }
  /** A session that ended is renewed with another token, and then the same request is worth another try. */
  get retryable(): boolean {
    return this.error.retryable || this.isAboutSession;
  }
  get isAboutSession(): boolean {
    return this.error.code === "token_expired" || this.error.code === "unauthorized";
  }
  get retryAfter(): number {
    return this.error.retry_after_ms;
  }
}

const local = (code: "unavailable" | "timeout", message: string) =>
  new Refused({ code, message, retryable: true, retry_after_ms: 0, details: [] });

export const offline = () => local("unavailable", "There is no connection.");
export const unanswered = () => local("timeout", "The server did not answer in time.");
