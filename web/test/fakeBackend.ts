import type { Socket } from "socket.io";
import type { Conversation, FoundUser, Message, Participant, Pushes, UnreadCount, User } from "@/protocol";
import { LIMITS } from "./builders";
import type { FakeEdge } from "./fakeWarren";

interface StoredConversation {
  id: string;
  kind: "direct" | "group";
  title: string | null;
  created_by: string;
  created_at: string;
  users: string[];
  reads: Map<string, number>;
  messages: Message[];
}

/** The state that several fake edges share, as real edges share a store. */
export class FakeBackend {
  readonly users = new Map<string, User>();
  readonly conversations = new Map<string, StoredConversation>();
  readonly edges = new Set<FakeEdge>();
  /** Totals are numbered in the order in which they were read. */
  private totals = 0;
  private clock = Date.parse("2026-03-02T09:00:00.000Z");

  now(): string {
    this.clock += 1000;
    return new Date(this.clock).toISOString();
  }

  addUser(id: string, name = id): User {
    const user = this.users.get(id) ?? { id, name, picture: null };
    this.users.set(id, user);
    return user;
  }

  start(by: string, others: string[], title: string | null = null): StoredConversation {
    const users = [...new Set([by, ...others])];
    const kind = others.length === 1 ? "direct" : "group";
    const existing = [...this.conversations.values()].find(
      (conversation) =>
        kind === "direct" &&
        conversation.kind === "direct" &&
        conversation.users.length === users.length &&
        users.every((id) => conversation.users.includes(id)),
    );
    if (existing) return existing;
    const id = `c${this.conversations.size + 1}`;
    const conversation: StoredConversation = {
      id,
      kind,
      title,
      created_by: by,
      created_at: this.now(),
      users,
      reads: new Map(),
      messages: [],
    };
    this.conversations.set(id, conversation);
    return conversation;
  }

  /** Store a message, only once for each client_message_id. */
  store(
    conversation: StoredConversation,
    sender_id: string,
    body: string,
    client_message_id = `w${conversation.messages.length + 1}`,
  ): { message: Message; fresh: boolean } {
    const known = conversation.messages.find(
      (message) => message.sender_id === sender_id && message.client_message_id === client_message_id,
    );
    if (known) return { message: known, fresh: false };
    const seq = conversation.messages.length + 1;
    const message: Message = {
      id: `${conversation.id}-m${seq}`,
      conversation_id: conversation.id,
      seq,
      sender_id,
      client_message_id,
      body: body.trim(),
      sent_at: this.now(),
    };
    conversation.messages.push(message);
    conversation.reads.set(sender_id, seq);
    return { message, fresh: true };
  }

  unread(conversation: StoredConversation, user: string): UnreadCount {
    const last_read_seq = conversation.reads.get(user) ?? 0;
    return {
      conversation_id: conversation.id,
      unread_count: conversation.messages.length - last_read_seq,
      last_seq: conversation.messages.length,
      last_read_seq,
      last_read_at: null,
      ...this.total(user),
    };
  }

  total(user: string): Pick<UnreadCount, "total_unread" | "total_version"> {
    const total_unread = this.listFor(user).reduce(
      (sum, { messages, reads }) => sum + messages.length - (reads.get(user) ?? 0),
      0,
    );
    this.totals += 1;
    return { total_unread, total_version: this.totals };
  }

  listFor(user: string): StoredConversation[] {
    return [...this.conversations.values()]
      .filter(
        (conversation) =>
          conversation.users.includes(user) && (conversation.messages.length > 0 || conversation.created_by === user),
      )
      .sort((a, b) => (updatedAt(a) < updatedAt(b) ? 1 : -1));
  }

  view(conversation: StoredConversation, user: string): Conversation {
    const last = conversation.messages.at(-1);
    return {
      id: conversation.id,
      kind: conversation.kind,
      title: conversation.title,
      created_by: conversation.created_by,
      created_at: conversation.created_at,
      updated_at: updatedAt(conversation),
      last_seq: conversation.messages.length,
      last_read_seq: conversation.reads.get(user) ?? 0,
      last_read_at: null,
      unread_count: this.unread(conversation, user).unread_count,
      last_message: last
        ? { id: last.id, seq: last.seq, sender_id: last.sender_id, preview: last.body, sent_at: last.sent_at }
        : null,
      participant_count: conversation.users.length,
      participants: this.participants(conversation).slice(0, LIMITS.max_shown_participants),
    };
  }

  participants({ users, reads }: StoredConversation): Participant[] {
    return users.map((id) => ({
      user: this.users.get(id) ?? { id, name: id, picture: null },
      online: this.online(id),
      last_seen_at: null,
      last_read_seq: reads.get(id) ?? 0,
      last_read_at: null,
    }));
  }

  found(user: User): FoundUser {
    return { ...user, online: this.online(user.id), last_seen_at: null };
  }

  online(user: string): boolean {
    return [...this.edges].some((edge) => edge.socketsOf(user).length > 0);
  }

  /** Push to every socket of a user on every edge. */
  push<E extends keyof Pushes>(user: string, event: E, payload: Pushes[E], except?: Socket): void {
    for (const edge of this.edges) edge.push(user, event, payload, except);
  }

  /** Store a message and send the pushes that follow from it. */
  sendMessage(
    conversation: StoredConversation,
    sender: string,
    body: string,
    client_message_id?: string,
    except?: Socket,
  ): Message {
    const { message, fresh } = this.store(conversation, sender, body, client_message_id);
    if (!fresh) return message;
    for (const user of conversation.users) {
      if (message.seq === 1) this.push(user, "conversation_updated", { conversation: this.view(conversation, user) });
      this.push(user, "new_message", { message }, except);
      this.push(user, "unread_updated", this.unread(conversation, user));
    }
    return message;
  }
}

const updatedAt = (conversation: StoredConversation) =>
  conversation.messages.at(-1)?.sent_at ?? conversation.created_at;
