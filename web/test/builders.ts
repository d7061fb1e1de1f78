import type { Conversation, Message, SessionReady, User } from "@/protocol";

export const aUser = (id: string): User => ({ id, name: id, picture: null });

export function aConversation(id: string, changes: Partial<Conversation> = {}): Conversation {
  const time = "2026-01-01T00:00:00.000Z";
  const participant = (user: string) => ({
    user: aUser(user),
    online: false,
    last_seen_at: null,
    last_read_seq: 0,
    last_read_at: null,
  });
  return {
    id,
    kind: "direct",
    title: null,
    created_by: "me",
    created_at: time,
    updated_at: time,
    last_seq: 0,
    unread_count: 0,
    last_message: null,
    participants: [participant("me"), participant("you")],
    ...changes,
  };
}

export function aMessage(
  conversation_id: string,
  seq: number,
  sender_id = "you",
  changes: Partial<Message> = {},
): Message {
  return {
    id: `${conversation_id}-m${seq}`,
    conversation_id,
    seq,
    sender_id,
    client_message_id: `m${seq}`,
    body: `Message ${seq}`,
    sent_at: "2026-01-01T00:00:00.000Z",
    ...changes,
  };
}

export const messagesFrom = (conversation_id: string, first: number, last: number): Message[] =>
  Array.from({ length: last - first + 1 }, (_, index) => aMessage(conversation_id, first + index));

export const sessionOf = (user: string): SessionReady => ({
  user: aUser(user),
  edge_id: "edge",
  server_time: "2026-01-01T00:00:00.000Z",
  limits: { max_body_characters: 4000, max_event_bytes: 65536, events_per_second: 50, burst: 100 },
});
