import type { Commands, Error as ErrorBody } from "@/protocol";

/** Send a command to the server and return the data of its ack. Rejects with `RequestError`. */
export type Request = <Event extends keyof Commands>(
  event: Event,
  payload: Commands[Event]["payload"],
) => Promise<Commands[Event]["data"]>;

/** The server rejected a request, did not answer it, or is not connected. */
export class RequestError extends Error {
  constructor(readonly error: ErrorBody) {
    super(error.message);
  }
  /** After an authentication error, the client reconnects with a fresh token and can repeat the request. */
  get retryable(): boolean {
    return this.error.retryable || this.isAuthenticationError;
  }
  get isAuthenticationError(): boolean {
    return this.error.code === "token_expired" || this.error.code === "unauthorized";
  }
  get retryAfter(): number {
    return this.error.retry_after_ms;
  }
}

const clientError = (code: "unavailable" | "timeout", message: string) =>
  new RequestError({ code, message, retryable: true, retry_after_ms: 0, details: [] });

export const offlineError = () => clientError("unavailable", "You’re not connected.");
export const timeoutError = () => clientError("timeout", "The server didn’t respond in time.");
