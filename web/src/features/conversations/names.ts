import type { Conversation, User } from "@/protocol";

/** The other one of a direct conversation; with oneself alone, oneself. */
export function otherIn(conversation: Conversation, me: string | null): User {
  const other = conversation.participants.find(({ user }) => user.id !== me) ?? conversation.participants[0];
  return other?.user ?? { id: conversation.id, name: "Nobody", picture: null };
}

/** What a conversation is called: the other's name, the group's title, or who is in it. */
export function nameOf(conversation: Conversation, me: string | null): string {
  if (conversation.kind === "direct") return otherIn(conversation, me).name;
  if (conversation.title) return conversation.title;
  const names = conversation.participants.filter(({ user }) => user.id !== me).map(({ user }) => firstName(user.name));
  return names.length > 3 ? `${names.slice(0, 3).join(", ")} and ${names.length - 3} more` : names.join(", ");
}

export const firstName = (name: string) => name.trim().split(/\s+/)[0] ?? name;

/** The text of a message without Markdown's marks, for one line of a list. */
export function plainPreview(preview: string): string {
  return preview
    .replace(/```\w*|`/g, "")
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replace(/(\*\*|__|~~)(?=\S)(.+?)\1/g, "$2")
    .replace(/^\s*(#{1,6}|>|[-*])\s+/gm, "")
    .replace(/\s+/g, " ")
    .trim();
}
