import type { OutboxStorage } from "@/app/outboxStorage";
import type { OutgoingMessage } from "@/features/messages/messageEvents";
import type { Conversation, Limits, Message, Participant, SessionReady, User } from "@/protocol";

/** The limits of an edge with the default settings. */
export const LIMITS: Limits = {
  max_body_characters: 4000,
  max_title_characters: 200,
  max_query_characters: 100,
  max_event_bytes: 65536,
  max_participants: 500,
  max_shown_participants: 20,
  max_seen_participants: 100,
  max_list_items: 100,
  max_user_ids: 100,
  max_in_flight: 100,
  max_connections_per_user: 20,
  events_per_second: 50,
  burst: 100,
  frames_per_second: 100,
  frame_burst: 500,
  bytes_per_second: 524288,
  byte_burst: 2097152,
  start_people_per_hour: 2000,
  searches_per_minute: 60,
  read_items_per_minute: 12000,
};

export const aUser = (id: string): User => ({ id, name: id, picture: null });

export const aParticipant = (id: string, last_read_seq = 0): Participant => ({
  user: aUser(id),
  online: false,
  last_seen_at: null,
  last_read_seq,
  last_read_at: null,
});

export function aConversation(id: string, changes: Partial<Conversation> = {}): Conversation {
  const time = "2026-01-01T00:00:00.000Z";
  const participants = changes.participants ?? [aParticipant("me"), aParticipant("you")];
  return {
    id,
    kind: "direct",
    title: null,
    created_by: "me",
    created_at: time,
    updated_at: time,
    last_seq: 0,
    last_read_seq: 0,
    last_read_at: null,
    unread_count: 0,
    last_message: null,
    participant_count: participants.length,
    ...changes,
    participants,
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
  limits: LIMITS,
});

/** Keeps unsent messages as long as the test lasts. */
export function outboxInMemory(): OutboxStorage {
  const entries = new Map<string, OutgoingMessage>();
  return {
    load: () => [...entries.values()],
    save: (_, before, after) => {
      for (const id of Object.keys(before)) if (!after[id]) entries.delete(id);
      for (const entry of Object.values(after)) entries.set(entry.client_message_id, entry);
    },
  };
}
