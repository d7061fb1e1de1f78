import type { Conversation } from "@/protocol";

/**
 * How far the others have read, by user id, as far as the client knows it: from the participants that the conversation
 * shows, and from what it has heard of those whom it does not.
 */
export function readsOfOthers(
  { participants }: Conversation,
  heard: Record<string, number>,
  me: string | null,
): [userId: string, seq: number][] {
  const shown = participants.map(({ user, last_read_seq }): [string, number] => [user.id, last_read_seq]);
  return [...shown, ...Object.entries(heard)].filter(([id]) => id !== me);
}

/** The sequence number up to which all others have read; 0 while that is unknown of somebody. */
export function everyoneReadUpTo(conversation: Conversation, heard: Record<string, number>, me: string | null): number {
  const reads = readsOfOthers(conversation, heard, me).map(([, seq]) => seq);
  const others = conversation.participant_count - 1;
  return others === 0 || reads.length < others ? 0 : Math.min(...reads);
}
