/* The shapes of PROTOCOL.md, version 1. */

export type Timestamp = string;
export type Code =
  | "unauthorized"
  | "token_expired"
  | "not_verified"
  | "too_many_connections"
  | "invalid_payload"
  | "unknown_event"
  | "too_large"
  | "not_found"
  | "user_not_found"
  | "forbidden"
  | "rate_limited"
  | "unavailable"
  | "timeout"
  | "internal";

export interface Error {
  code: Code;
  message: string;
  retryable: boolean;
  retry_after_ms?: number;
  details?: { [k: string]: string }[];
}
export interface User {
  id: string;
  name: string;
  picture: string | null;
}
export interface FoundUser {
  id: string;
  name: string;
  picture: string | null;
  online: boolean;
  last_seen_at: string | null;
}
export interface Presence {
  user_id: string;
  online: boolean;
  last_seen_at: string | null;
}
export interface Message {
  id: string;
  conversation_id: string;
  seq: number;
  sender_id: string;
  client_message_id: string;
  body: string;
  sent_at: string;
}
export interface LastMessage {
  id: string;
  seq: number;
  sender_id: string;
  preview: string;
  sent_at: string;
}
export interface Participant {
  user: User;
  online: boolean;
  last_seen_at: string | null;
  last_read_seq: number;
  last_read_at: string | null;
}
export interface Conversation {
  id: string;
  kind: "direct" | "group";
  title: string | null;
  created_by: string;
  created_at: string;
  updated_at: string;
  last_seq: number;
  unread_count: number;
  last_message: LastMessage | null;
  participants: Participant[];
}
export interface Limits {
  max_body_characters: number;
  max_event_bytes: number;
  events_per_second: number;
  burst: number;
}
export interface StartConversationPayload {
  participant_ids: string[];
  title?: string | null;
}
export interface SendMessagePayload {
  conversation_id: string;
  client_message_id: string;
  body: string;
}
export interface MessageSeenPayload {
  conversation_id: string;
  seq: number;
}
export interface ListConversationsPayload {
  cursor?: string | null;
  limit?: number;
}
export interface ListMessagesPayload {
  conversation_id: string;
  before_seq?: number | null;
  after_seq?: number | null;
  limit?: number;
}
export interface FindUsersPayload {
  query?: string;
  online_only?: boolean;
  limit?: number;
}
export interface GetPresencePayload {
  user_ids: string[];
}
export interface TypingPayload {
  conversation_id: string;
  typing: boolean;
}
export interface RefreshTokenPayload {
  token: string;
}
export interface ConversationStarted {
  conversation: Conversation;
}
export interface MessageSent {
  message: Message;
}
export interface UnreadCount {
  conversation_id: string;
  unread_count: number;
  last_read_seq: number;
  last_read_at: string | null;
  total_unread: number;
}
export interface ConversationPage {
  conversations: Conversation[];
  next_cursor: string | null;
  total_unread: number;
}
export interface MessagePage {
  messages: Message[];
  has_more: boolean;
}
export interface UsersFound {
  users: FoundUser[];
}
export interface PresenceList {
  presence: Presence[];
}
// eslint-disable-next-line @typescript-eslint/no-empty-object-type
export interface Nothing {}
export interface TokenRefreshed {
  expires_at: string;
}
export interface SessionReady {
  user: User;
  edge_id: string;
  server_time: string;
  limits: Limits;
}
export interface ConversationUpdated {
  conversation: Conversation;
}
export interface NewMessage {
  message: Message;
}
export interface SeenByOther {
  conversation_id: string;
  user_id: string;
  last_read_seq: number;
  last_read_at: string | null;
}
export interface TypingByOther {
  conversation_id: string;
  user_id: string;
  typing: boolean;
}
export interface ServerDraining {
  reconnect_after_ms: number;
}

/** What a client may send: the payload of each event, and the data of its ack. */
export interface Commands {
  start_conversation: { payload: StartConversationPayload; data: ConversationStarted };
  send_message: { payload: SendMessagePayload; data: MessageSent };
  message_seen: { payload: MessageSeenPayload; data: UnreadCount };
  list_conversations: { payload: ListConversationsPayload; data: ConversationPage };
  list_messages: { payload: ListMessagesPayload; data: MessagePage };
  find_users: { payload: FindUsersPayload; data: UsersFound };
  get_presence: { payload: GetPresencePayload; data: PresenceList };
  typing: { payload: TypingPayload; data: Nothing };
  refresh_token: { payload: RefreshTokenPayload; data: TokenRefreshed };
}

/** What the server pushes: the payload of each event. */
export interface Pushes {
  session_ready: SessionReady;
  conversation_updated: ConversationUpdated;
  new_message: NewMessage;
  unread_updated: UnreadCount;
  message_seen: SeenByOther;
  presence_updated: Presence;
  typing: TypingByOther;
  server_draining: ServerDraining;
}
