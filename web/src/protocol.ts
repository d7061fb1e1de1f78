/* Written by `npm run protocol` from docs/schema/protocol.json; not to be edited. */
/* eslint-disable */

/**
 * The error codes that clients see; they never change their meaning.
 */
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

/**
 * What crosses the socket: see docs/protocol.md.
 */
export interface Protocol {
  commands: Commands;
  pushes: Pushes;
  connect: {
    auth: Auth;
    refusal: ConnectRefusal;
  };
}
/**
 * What a client may send: payload and ack of each event.
 */
export interface Commands {
  start_conversation: {
    payload: StartConversationPayload;
    data: ConversationStarted;
    ack:
      | {
          ok: true;
          data: ConversationStarted;
        }
      | Refusal;
  };
  send_message: {
    payload: SendMessagePayload;
    data: MessageSent;
    ack:
      | {
          ok: true;
          data: MessageSent;
        }
      | Refusal;
  };
  message_seen: {
    payload: MessageSeenPayload;
    data: UnreadCount;
    ack:
      | {
          ok: true;
          data: UnreadCount;
        }
      | Refusal;
  };
  list_conversations: {
    payload: ListConversationsPayload;
    data: ConversationPage;
    ack:
      | {
          ok: true;
          data: ConversationPage;
        }
      | Refusal;
  };
  list_messages: {
    payload: ListMessagesPayload;
    data: MessagePage;
    ack:
      | {
          ok: true;
          data: MessagePage;
        }
      | Refusal;
  };
  find_users: {
    payload: FindUsersPayload;
    data: UsersFound;
    ack:
      | {
          ok: true;
          data: UsersFound;
        }
      | Refusal;
  };
  get_presence: {
    payload: GetPresencePayload;
    data: PresenceList;
    ack:
      | {
          ok: true;
          data: PresenceList;
        }
      | Refusal;
  };
  typing: {
    payload: TypingPayload;
    data: Nothing;
    ack:
      | {
          ok: true;
          data: Nothing;
        }
      | Refusal;
  };
  refresh_token: {
    payload: RefreshTokenPayload;
    data: TokenRefreshed;
    ack:
      | {
          ok: true;
          data: TokenRefreshed;
        }
      | Refusal;
  };
}
/**
 * One other person starts (or finds) the direct conversation with them; more start a group.
 */
export interface StartConversationPayload {
  participant_ids: string[];
  title?: string | null;
}
export interface ConversationStarted {
  conversation: Conversation;
}
/**
 * A conversation as one of its participants sees it: `unread_count` is theirs.
 */
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
/**
 * The newest message of a conversation, as its header shows it.
 */
export interface LastMessage {
  id: string;
  seq: number;
  sender_id: string;
  preview: string;
  sent_at: string;
}
/**
 * Someone in a conversation, and how far they have read.
 */
export interface Participant {
  user: User;
  online: boolean;
  last_seen_at: string | null;
  last_read_seq: number;
  last_read_at: string | null;
}
/**
 * Someone as others see them; `picture` is an address or null.
 */
export interface User {
  id: string;
  name: string;
  picture: string | null;
}
/**
 * An ack that is not ok.
 */
export interface Refusal {
  ok: false;
  error: Error;
}
/**
 * What an ack carries when it is not ok. `details` names each field and why, or the id in the log.
 */
export interface Error {
  code: Code;
  message: string;
  retryable: boolean;
  retry_after_ms: number;
  details: {
    [k: string]: string;
  }[];
}
/**
 * A message; repeating the same `client_message_id` is always safe.
 */
export interface SendMessagePayload {
  conversation_id: string;
  client_message_id: string;
  body: string;
}
export interface MessageSent {
  message: Message;
}
/**
 * One message of a conversation; `seq` is dense from 1 and the same for everyone.
 */
export interface Message {
  id: string;
  conversation_id: string;
  seq: number;
  sender_id: string;
  client_message_id: string;
  body: string;
  sent_at: string;
}
/**
 * All messages up to `seq` were on screen.
 */
export interface MessageSeenPayload {
  conversation_id: string;
  seq: number;
}
/**
 * One conversation's unread messages, and the user's in all, as the store has them.
 */
export interface UnreadCount {
  conversation_id: string;
  unread_count: number;
  last_read_seq: number;
  last_read_at: string | null;
  total_unread: number;
}
/**
 * A page of the user's conversations, newest activity first.
 */
export interface ListConversationsPayload {
  cursor?: string | null;
  limit?: number;
}
export interface ConversationPage {
  conversations: Conversation[];
  next_cursor: string | null;
  total_unread: number;
}
/**
 * A page of a conversation: the newest, those before a seq, or those after one; always ascending.
 */
export interface ListMessagesPayload {
  conversation_id: string;
  before_seq?: number | null;
  after_seq?: number | null;
  limit?: number;
}
export interface MessagePage {
  messages: Message[];
  has_more: boolean;
}
/**
 * People whose name or id has a word that starts as each word of the query does.
 */
export interface FindUsersPayload {
  query?: string;
  online_only?: boolean;
  limit?: number;
}
export interface UsersFound {
  users: FoundUser[];
}
/**
 * A user as a search shows them.
 */
export interface FoundUser {
  id: string;
  name: string;
  picture: string | null;
  online: boolean;
  last_seen_at: string | null;
}
/**
 * Who of these people is online.
 */
export interface GetPresencePayload {
  user_ids: string[];
}
export interface PresenceList {
  presence: Presence[];
}
/**
 * Whether someone is connected, and when they were last.
 */
export interface Presence {
  user_id: string;
  online: boolean;
  last_seen_at: string | null;
}
/**
 * Someone starts or stops typing; best effort.
 */
export interface TypingPayload {
  conversation_id: string;
  typing: boolean;
}
/**
 * The empty answer of `typing`.
 */
export interface Nothing {}
/**
 * A new token of the same user with a later expiry; answered by the edge itself.
 */
export interface RefreshTokenPayload {
  token: string;
}
export interface TokenRefreshed {
  expires_at: string;
}
/**
 * What a server sends by itself: the payload of each event.
 */
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
/**
 * The socket can be routed to: time to take a fresh snapshot.
 */
export interface SessionReady {
  user: User;
  edge_id: string;
  server_time: string;
  limits: Limits;
}
/**
 * What a client should keep to; 0 means without limit.
 */
export interface Limits {
  max_body_characters: number;
  max_event_bytes: number;
  events_per_second: number;
  burst: number;
}
export interface ConversationUpdated {
  conversation: Conversation;
}
export interface NewMessage {
  message: Message;
}
/**
 * Another participant has read up to `last_read_seq`.
 */
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
/**
 * Goes with the connection, never into its URL.
 */
export interface Auth {
  token: string;
}
/**
 * The `data` of Socket.IO's `connect_error`; its `message` is the code.
 */
export interface ConnectRefusal {
  code: Code;
  message: string;
  retryable: boolean;
}
