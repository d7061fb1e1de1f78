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
    return this.error.retry_after_ms ?? 0;
  }
}

export const offline = () => new Refused({ code: "unavailable", message: "There is no connection.", retryable: true });
export const unanswered = () => new Refused({ code: "timeout", message: "The server did not answer in time.", retryable: true });
