/* Written by `npm run protocol` from docs/schema/protocol.json; not to be edited. */
/* eslint-disable */

/**
 * The error codes that clients get. Their meaning never changes.
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
 * Everything between a client and an edge: see docs/protocol.md.
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
 * The events that a client may send: payload, data and ack of each.
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
  list_participants: {
    payload: ListParticipantsPayload;
    data: ParticipantPage;
    ack:
      | {
          ok: true;
          data: ParticipantPage;
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
  get_users: {
    payload: GetUsersPayload;
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
 * One participant starts, or finds, the direct conversation with that user; several start a group.
 */
export interface StartConversationPayload {
  participant_ids: string[];
  title?: string | null;
}
export interface ConversationStarted {
  conversation: Conversation;
}
/**
 * A conversation as one participant, its reader, sees it. `participants` are the first who joined, at most `SHOWN_PARTICIPANTS` of the `participant_count`. The reader's own are `last_read_seq`, `last_read_at` and `unread_count`.
 */
export interface Conversation {
  id: string;
  kind: "direct" | "group";
  title: string | null;
  created_by: string;
  created_at: string;
  updated_at: string;
  last_seq: number;
  last_read_seq: number;
  last_read_at: string | null;
  unread_count: number;
  last_message: LastMessage | null;
  participant_count: number;
  participants: Participant[];
}
/**
 * The newest message of a conversation, with the start of its body.
 */
export interface LastMessage {
  id: string;
  seq: number;
  sender_id: string;
  preview: string;
  sent_at: string;
}
/**
 * A participant of a conversation, with the seq up to which the participant has read.
 */
export interface Participant {
  user: User;
  online: boolean;
  last_seen_at: string | null;
  last_read_seq: number;
  last_read_at: string | null;
}
/**
 * A user as other users see them; `picture` is a URL or null.
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
 * The error of an ack that is not ok. `details` name each wrong field and the reason, or the id in the log.
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
 * A message. Sending the same `client_message_id` again is always safe.
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
 * A message. `seq` numbers a conversation's messages from 1 without gaps, and is the same for every participant.
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
 * The user has seen all messages up to `seq`.
 */
export interface MessageSeenPayload {
  conversation_id: string;
  seq: number;
}
/**
 * A user's unread messages in one conversation and in all, and the user's watermark in this conversation. Of two, the one with the higher `last_seq + last_read_seq` has the newer count, and the one with the higher `total_version` the newer total.
 */
export interface UnreadCount {
  conversation_id: string;
  unread_count: number;
  last_seq: number;
  last_read_seq: number;
  last_read_at: string | null;
  total_unread: number;
  total_version: number;
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
  total_version: number;
}
/**
 * A page of a conversation's messages: the newest, those before a seq, or those after one. Always ascending.
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
 * A page of a conversation's participants, in the order in which they joined.
 */
export interface ListParticipantsPayload {
  conversation_id: string;
  cursor?: string | null;
  limit?: number;
}
export interface ParticipantPage {
  participants: Participant[];
  next_cursor: string | null;
}
/**
 * Users whose name or id has, for each word of the query, a word that starts with it.
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
 * A user with their presence, in the results of `find_users` and `get_users`.
 */
export interface FoundUser {
  id: string;
  name: string;
  picture: string | null;
  online: boolean;
  last_seen_at: string | null;
}
/**
 * These users, as a search finds them.
 */
export interface GetUsersPayload {
  user_ids: string[];
}
/**
 * Which of these users are online.
 */
export interface GetPresencePayload {
  user_ids: string[];
}
export interface PresenceList {
  presence: Presence[];
}
/**
 * Whether a user is online, and when the user was last online.
 */
export interface Presence {
  user_id: string;
  online: boolean;
  last_seen_at: string | null;
}
/**
 * The user starts or stops typing. Best effort.
 */
export interface TypingPayload {
  conversation_id: string;
  typing: boolean;
}
/**
 * The empty data of an ack, as of `typing`.
 */
export interface Nothing {}
/**
 * A new token of the same user with a later expiry. The edge itself answers.
 */
export interface RefreshTokenPayload {
  token: string;
}
export interface TokenRefreshed {
  expires_at: string;
}
/**
 * The events that a server sends by itself: the payload of each.
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
 * Pushes reach the socket from now on: the client should take a snapshot.
 */
export interface SessionReady {
  user: User;
  edge_id: string;
  server_time: string;
  limits: Limits;
}
/**
 * The bounds that a client meets. For rates and budgets, which are the edge's settings, 0 means no limit.
 */
export interface Limits {
  max_body_characters: number;
  max_title_characters: number;
  max_query_characters: number;
  max_event_bytes: number;
  max_participants: number;
  max_shown_participants: number;
  max_seen_participants: number;
  max_list_items: number;
  max_user_ids: number;
  max_in_flight: number;
  max_connections_per_user: number;
  events_per_second: number;
  burst: number;
  frames_per_second: number;
  frame_burst: number;
  bytes_per_second: number;
  byte_burst: number;
  start_people_per_hour: number;
  searches_per_minute: number;
  read_items_per_minute: number;
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
 * Sent when connecting, never in the URL.
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
