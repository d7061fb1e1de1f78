import type { Conversation, Message, Participant, UnreadCount } from "@/protocol";

/** The unread count of a conversation and the positions that it was computed from. Only the server computes it. */
export type Unread = Pick<UnreadCount, "unread_count" | "last_seq" | "last_read_seq">;

/**
 * Whether `incoming` is at least as new as `current`. Pushes and acks may arrive out of order, but `last_seq` and
 * `last_read_seq` never decrease, and neither does their sum.
 */
export function isAtLeastAsNew(incoming: Unread, current: Unread | undefined): boolean {
  return !current || revision(incoming) >= revision(current);
}

const revision = ({ last_seq, last_read_seq }: Unread) => last_seq + last_read_seq;

/** Merge two versions of a conversation that may have arrived out of order: keep the newer value of each part. */
export function mergeConversation(current: Conversation | undefined, incoming: Conversation): Conversation {
  if (!current) return incoming;
  const newest = incoming.last_seq >= current.last_seq ? incoming : current;
  const furthest = incoming.last_read_seq >= current.last_read_seq ? incoming : current;
  return {
    ...incoming,
    last_read_seq: furthest.last_read_seq,
    last_read_at: furthest.last_read_at,
    updated_at: later(current.updated_at, incoming.updated_at),
    last_seq: newest.last_seq,
    last_message: newest.last_message,
    participants: incoming.participants.map((participant) =>
      mergeParticipant(
        current.participants.find(({ user }) => user.id === participant.user.id),
        participant,
      ),
    ),
  };
}

function mergeParticipant(current: Participant | undefined, incoming: Participant): Participant {
  if (!current || current.last_read_seq <= incoming.last_read_seq) return incoming;
  return { ...incoming, last_read_seq: current.last_read_seq, last_read_at: current.last_read_at };
}

/** The later of two times. RFC 3339 times in UTC with milliseconds sort as text. */
const later = (a: string, b: string) => (a > b ? a : b);

/** The preview of a message in the conversation list, until the server's own preview arrives. */
export function previewOf(message: Message): string {
  return message.body.replace(/\s+/g, " ").trim().slice(0, 140);
}
