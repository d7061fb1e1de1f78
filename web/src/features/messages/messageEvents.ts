import { createAction, nanoid, prepareAutoBatched } from "@reduxjs/toolkit";
import type { Error as Refusal, Message } from "@/protocol";

/** A message of one's own that the server has not accepted yet. */
export interface OutgoingMessage {
  client_message_id: string;
  conversation_id: string;
  body: string;
  composed_at: string;
  /** Why the server will never take it as it is; null while it is on its way. */
  refusal: Pick<Refusal, "code" | "message"> | null;
}

/** The person pressed Enter. The id made here stays with the message through every retry. */
export const messageComposed = createAction("messages/composed", (conversationId: string, body: string) => ({
  payload: {
    client_message_id: nanoid(),
    conversation_id: conversationId,
    body: body.trim(),
    composed_at: new Date().toISOString(),
    refusal: null,
  } satisfies OutgoingMessage,
}));

/** The ack: stored, with its place in the order. */
export const messageAccepted = createAction<Message>("messages/accepted");

/** A push: someone's message, or one's own from another device or an earlier connection. */
export const messageReceived = createAction("messages/received", prepareAutoBatched<Message>());
