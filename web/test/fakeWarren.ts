import { createServer, type Server as HttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Server, type Socket } from "socket.io";
import type { Code, Commands, Pushes } from "@/protocol";
import { LIMITS } from "./builders";
import { FakeBackend } from "./fakeBackend";

type Ack = (answer: unknown) => void;
type Event = keyof Commands;
/** What goes wrong with the next event of a kind. */
export type Fault = "drop" | "store-and-drop" | { code: Code; retryable: boolean; retry_after_ms?: number };

const RETRYABLE = { message: "", details: [] };

/** A token with readable claims. The fake does not verify signatures. */
export function tokenFor(id: string, name = id, lifetimeSeconds = 3600): string {
  const claims = { sub: id, name, exp: Math.floor(Date.now() / 1000) + lifetimeSeconds };
  const encoded = Buffer.from(JSON.stringify(claims)).toString("base64url");
  return `e30.${encoded}.signature`;
}

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
      limits: LIMITS,
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
        return ok({ users: users.map((user) => backend.found(user)) });
      }
      case "list_participants": {
        const { conversation_id, cursor, limit = 50 } = payload as Commands["list_participants"]["payload"];
        const target = findConversation(conversation_id);
        if (!target) return no("not_found");
        const from = Number(cursor ?? 0);
        return ok({
          participants: backend.participants(target).slice(from, from + limit),
          next_cursor: from + limit < target.users.length ? String(from + limit) : null,
        });
      }
      case "get_users": {
        const { user_ids } = payload as Commands["get_users"]["payload"];
        const users = user_ids.flatMap((id) => backend.users.get(id) ?? []);
        return ok({ users: users.map((user) => backend.found(user)) });
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
