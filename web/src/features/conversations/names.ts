import type { Conversation, User } from "@/protocol";

/** The other participant of a direct conversation, or the user if there is no other. */
export function otherParticipant(conversation: Conversation, me: string | null): User {
  const other = conversation.participants.find(({ user }) => user.id !== me) ?? conversation.participants[0];
  return other?.user ?? { id: conversation.id, name: "Unknown user", picture: null };
}

/** The display name of a conversation: the other user's name, the group's title, or the names of its members. */
export function conversationName(conversation: Conversation, me: string | null): string {
  if (conversation.kind === "direct") return otherParticipant(conversation, me).name;
  if (conversation.title) return conversation.title;
  const names = conversation.participants.filter(({ user }) => user.id !== me).map(({ user }) => firstName(user.name));
  return someOf(names, conversation.participant_count - 1);
}

/** Up to three names, and how many more there are of `count` people. */
export function someOf(names: string[], count: number): string {
  return count > 3 ? `${names.slice(0, 3).join(", ")} and ${count - 3} more` : names.join(", ");
}

export const firstName = (name: string) => name.trim().split(/\s+/)[0] ?? name;

/** A message preview on one line, without Markdown syntax. */
export function plainPreview(preview: string): string {
  return preview
    .replace(/```\w*|`/g, "")
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replace(/(\*\*|__|~~)(?=\S)(.+?)\1/g, "$2")
    .replace(/^\s*(#{1,6}|>|[-*])\s+/gm, "")
    .replace(/\s+/g, " ")
    .trim();
}
