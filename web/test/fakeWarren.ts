import { createServer, type Server as HttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Server, type Socket } from "socket.io";
import type { Code, Commands, Conversation, Message, Pushes, UnreadCount, User } from "@/protocol";

type Ack = (answer: unknown) => void;
type Event = keyof Commands;
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

/** What goes wrong with the next event of a kind. */
export type Fault = "drop" | "store-and-drop" | { code: Code; retryable: boolean; retry_after_ms?: number };

const RETRYABLE = { message: "", details: [] };

/** A token with readable claims. The fake does not verify signatures. */
export function tokenFor(id: string, name = id, lifetimeSeconds = 3600): string {
  const claims = { sub: id, name, exp: Math.floor(Date.now() / 1000) + lifetimeSeconds };
  const encoded = Buffer.from(JSON.stringify(claims)).toString("base64url");
  return `e30.${encoded}.signature`;
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
      unread_count: this.unread(conversation, user).unread_count,
      last_message: last
        ? { id: last.id, seq: last.seq, sender_id: last.sender_id, preview: last.body, sent_at: last.sent_at }
        : null,
      participants: conversation.users.map((id) => ({
        user: this.users.get(id) ?? { id, name: id, picture: null },
        online: this.online(id),
        last_seen_at: null,
        last_read_seq: conversation.reads.get(id) ?? 0,
        last_read_at: null,
      })),
    };
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

/** An edge on its own port that implements docs/protocol.md for the official client. */
export class FakeEdge {
  /** Every event received, in order. */
  readonly received: { user: string; event: string; payload: unknown }[] = [];
  readonly tokens: string[] = [];
  private readonly faults = new Map<Event, Fault[]>();
  private dropped = new Set<keyof Pushes>();
  private refusal: { code: Code; message: string; retryable: boolean } | null = null;
  private readonly http: HttpServer;
  private readonly io: Server;

  private constructor(readonly backend: FakeBackend) {
    this.http = createServer();
    this.io = new Server(this.http, { transports: ["websocket"], cors: { origin: "*" } });
    this.io.use((socket, next) => {
      const { token } = socket.handshake.auth as { token: string };
      this.tokens.push(token);
      if (this.refusal) {
        next(Object.assign(new Error(this.refusal.code), { data: this.refusal }));
        return;
      }
      const claims = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString()) as {
        sub: string;
        name: string;
        exp: number;
      };
      if (claims.exp * 1000 < Date.now()) {
        next(
          Object.assign(new Error("token_expired"), {
            data: { code: "token_expired", message: "Expired.", retryable: false },
          }),
        );
        return;
      }
      (socket.data as { user: string }).user = claims.sub;
      backend.addUser(claims.sub, claims.name);
      next();
    });
    this.io.on("connection", (socket) => this.serve(socket));
  }

  static async open(backend = new FakeBackend(), port = 0): Promise<FakeEdge> {
    const edge = new FakeEdge(backend);
    await new Promise<void>((resolve) => edge.http.listen(port, "127.0.0.1", resolve));
    backend.edges.add(edge);
    return edge;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.http.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.backend.edges.delete(this);
    await this.io.close();
  }

  /** Let the next events of this kind fail, one for each fault. */
  failNext(event: Event, ...faults: Fault[]): void {
    this.faults.set(event, [...(this.faults.get(event) ?? []), ...faults]);
  }

  /** Drop pushes of these kinds from now on; without arguments, drop none. */
  dropPushes(...events: (keyof Pushes)[]): void {
    this.dropped = new Set(events);
  }

  refuseConnections(code: Code | null, retryable = false): void {
    this.refusal = code && { code, message: `Refused: ${code}.`, retryable };
  }

  disconnectAll(): void {
    this.io.disconnectSockets(true);
  }

  /** Send `session_ready` again, as an edge does after it may have missed pushes. */
  announceSession(user: string): void {
    for (const socket of this.socketsOf(user)) this.ready(socket);
  }

  socketsOf(user: string): Socket[] {
    return [...this.io.sockets.sockets.values()].filter((socket) => (socket.data as { user?: string }).user === user);
  }

  push<E extends keyof Pushes>(user: string, event: E, payload: Pushes[E], except?: Socket): void {
    if (this.dropped.has(event)) return;
    for (const socket of this.socketsOf(user)) if (socket !== except) socket.emit(event, payload);
  }

  payloads<E extends Event>(event: E): Commands[E]["payload"][] {
    return this.received
      .filter((entry) => entry.event === event)
      .map((entry) => entry.payload as Commands[E]["payload"]);
  }

  private ready(socket: Socket): void {
    const { user } = socket.data as { user: string };
    socket.emit("session_ready", {
      user: this.backend.addUser(user),
      edge_id: this.url,
      server_time: this.backend.now(),
      limits: { max_body_characters: 4000, max_event_bytes: 65536, events_per_second: 50, burst: 100 },
    } satisfies Pushes["session_ready"]);
  }

  private serve(socket: Socket): void {
    const { user } = socket.data as { user: string };
    socket.onAny((event: Event, payload: unknown, ack: Ack) => {
      this.received.push({ user, event, payload });
      const fault = this.faults.get(event)?.shift();
      if (fault === "drop") return;
      if (fault && fault !== "store-and-drop") {
        ack({ ok: false, error: { ...RETRYABLE, message: `Refused: ${fault.code}.`, retry_after_ms: 0, ...fault } });
        return;
      }
      const answer = this.answer(socket, user, event, payload);
      if (fault !== "store-and-drop") ack(answer);
    });
    this.ready(socket);
    for (const conversation of this.backend.listFor(user))
      for (const other of conversation.users)
        if (other !== user)
          this.backend.push(other, "presence_updated", { user_id: user, online: true, last_seen_at: null });
  }

  private answer(socket: Socket, user: string, event: Event, payload: unknown): unknown {
    const { backend } = this;
    const ok = (data: unknown) => ({ ok: true, data });
    const no = (code: Code) => ({ ok: false, error: { code, message: `Refused: ${code}.`, retryable: false } });
    const findConversation = (id: string) => {
      const conversation = backend.conversations.get(id);
      return conversation?.users.includes(user) ? conversation : undefined;
    };
    switch (event) {
      case "start_conversation": {
        const { participant_ids, title } = payload as Commands["start_conversation"]["payload"];
        if (participant_ids.some((id) => !backend.users.has(id))) return no("user_not_found");
        const started = backend.start(user, participant_ids, title ?? null);
        backend.push(user, "conversation_updated", { conversation: backend.view(started, user) }, socket);
        return ok({ conversation: backend.view(started, user) });
      }
      case "send_message": {
        const { conversation_id, client_message_id, body } = payload as Commands["send_message"]["payload"];
        const target = findConversation(conversation_id);
        if (!target) return no("not_found");
        return ok({ message: backend.sendMessage(target, user, body, client_message_id, socket) });
      }
      case "message_seen": {
        const { conversation_id, seq } = payload as Commands["message_seen"]["payload"];
        const target = findConversation(conversation_id);
        if (!target) return no("not_found");
        target.reads.set(user, Math.min(target.messages.length, Math.max(target.reads.get(user) ?? 0, seq)));
        const unread = backend.unread(target, user);
        backend.push(user, "unread_updated", unread);
        for (const other of target.users)
          if (other !== user)
            backend.push(other, "message_seen", {
              conversation_id,
              user_id: user,
              last_read_seq: unread.last_read_seq,
              last_read_at: backend.now(),
            });
        return ok(unread);
      }
      case "list_conversations": {
        const { cursor, limit = 50 } = payload as Commands["list_conversations"]["payload"];
        const from = Number(cursor ?? 0);
        const all = backend.listFor(user);
        return ok({
          conversations: all.slice(from, from + limit).map((conversation) => backend.view(conversation, user)),
          next_cursor: from + limit < all.length ? String(from + limit) : null,
          ...backend.total(user),
        });
      }
      case "list_messages": {
        const { conversation_id, before_seq, after_seq, limit = 50 } = payload as Commands["list_messages"]["payload"];
        const all = findConversation(conversation_id)?.messages;
        if (!all) return no("not_found");
        if (after_seq != null) {
          const rest = all.filter(({ seq }) => seq > after_seq);
          return ok({ messages: rest.slice(0, limit), has_more: rest.length > limit });
        }
        const before = all.filter(({ seq }) => before_seq == null || seq < before_seq);
        return ok({ messages: before.slice(-limit), has_more: before.length > limit });
      }
      case "find_users": {
        const { query = "" } = payload as Commands["find_users"]["payload"];
        const users = [...backend.users.values()].filter(({ name }) =>
          name.toLowerCase().includes(query.toLowerCase()),
        );
        return ok({
          users: users.map((found) => ({ ...found, online: backend.online(found.id), last_seen_at: null })),
        });
      }
      case "get_presence": {
        const { user_ids } = payload as Commands["get_presence"]["payload"];
        return ok({
          presence: user_ids.map((user_id) => ({ user_id, online: backend.online(user_id), last_seen_at: null })),
        });
      }
      case "typing": {
        const { conversation_id, typing } = payload as Commands["typing"]["payload"];
        for (const other of findConversation(conversation_id)?.users ?? [])
          if (other !== user) backend.push(other, "typing", { conversation_id, user_id: user, typing });
        return ok({});
      }
      case "refresh_token":
        return ok({ expires_at: backend.now() });
      default:
        return no("unknown_event");
    }
  }
}
