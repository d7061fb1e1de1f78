import type { Conversation, Message, Participant, UnreadCount } from "@/protocol";

/** One conversation's unread number, with the fact it was computed from. Only the server makes these. */
export type Unread = Pick<UnreadCount, "unread_count" | "last_read_seq">;

/**
 * Whether `incoming` is not older than `held`. Pushes and acks may arrive out of order, but `last_seq` and
 * `last_read_seq` never move back, so their sum (unread_count = last_seq - last_read_seq) tells which one is newer.
 */
export function isCurrent(incoming: Unread, held: Unread | undefined): boolean {
  return !held || age(incoming) >= age(held);
}

const age = ({ last_read_seq, unread_count }: Unread) => 2 * last_read_seq + unread_count;

/** Take from two pictures of one conversation whatever is newer in each. */
export function mergeConversation(held: Conversation | undefined, incoming: Conversation): Conversation {
  if (!held) return incoming;
  const newest = incoming.last_seq >= held.last_seq ? incoming : held;
  return {
    ...incoming,
    updated_at: later(held.updated_at, incoming.updated_at),
    last_seq: newest.last_seq,
    last_message: newest.last_message,
    participants: incoming.participants.map((participant) =>
      mergeParticipant(
        held.participants.find(({ user }) => user.id === participant.user.id),
        participant,
      ),
    ),
  };
}

function mergeParticipant(held: Participant | undefined, incoming: Participant): Participant {
  if (!held || held.last_read_seq <= incoming.last_read_seq) return incoming;
  return { ...incoming, last_read_seq: held.last_read_seq, last_read_at: held.last_read_at };
}

/** RFC 3339 in UTC with milliseconds sorts as text. */
const later = (a: string, b: string) => (a > b ? a : b);

/** The one-line text that stands for a message in the list until the server's own preview arrives. */
export function previewOf(message: Message): string {
  return message.body.replace(/\s+/g, " ").trim().slice(0, 140);
}
