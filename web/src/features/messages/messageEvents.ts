import { createAction, nanoid, prepareAutoBatched } from "@reduxjs/toolkit";
import type { Error as Refusal, Message } from "@/protocol";

/** A message of this user that the server has not stored yet. */
export interface OutgoingMessage {
  client_message_id: string;
  conversation_id: string;
  body: string;
  composed_at: string;
  /** Why the server rejected the message; null while it can still be sent. */
  refusal: Pick<Refusal, "code" | "message"> | null;
}

/** The user sends a message. It keeps the id made here through every retry. */
export const messageComposed = createAction("messages/composed", (conversationId: string, body: string) => ({
  payload: {
    client_message_id: nanoid(),
    conversation_id: conversationId,
    body: body.trim(),
    composed_at: new Date().toISOString(),
    refusal: null,
  } satisfies OutgoingMessage,
}));

/** The ack of a message: the server has stored it and given it a sequence number. */
export const messageAccepted = createAction<Message>("messages/accepted");

/** The push of a message: from another user, or from this user on another device or an earlier connection. */
export const messageReceived = createAction("messages/received", prepareAutoBatched<Message>());
