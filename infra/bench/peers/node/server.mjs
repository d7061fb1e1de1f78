// Chat on Socket.IO for Node, its Redis adapter and the official MongoDB driver, written for speed.
//
// A message costs the same three operations of the store as in ../chat.py, for the same reasons: find a repeated
// client_message_id; number it and count it as unread, atomically in the header; insert it, acknowledged by a majority.

import { createServer } from "node:http";

import { createAdapter } from "@socket.io/redis-adapter";
import jwt from "jsonwebtoken";
import { MongoClient } from "mongodb";
import { createClient } from "redis";
import { Server } from "socket.io";

const { PEER_PORT, PEER_SECRET, PEER_MONGO_URL, PEER_DATABASE, PEER_REDIS_URL } = process.env;
const POOL_SIZE = 50;
const PREVIEW_CHARACTERS = 120;
const DUPLICATE_KEY = 11000;

// --- Store ----------------------------------------------------------------------------------------------------

// Retryable writes make the server keep a record of each, which costs as much as the write.
const client = await MongoClient.connect(PEER_MONGO_URL, { maxPoolSize: POOL_SIZE, retryWrites: false });
const database = client.db(PEER_DATABASE, { writeConcern: { w: "majority" } });
const messages = database.collection("messages");
const conversations = database.collection("conversations");
const quickConversations = database.collection("conversations", { writeConcern: { w: 1 } });
await messages.createIndex({ conversation_id: 1, seq: 1 }, { unique: true });
await conversations.createIndex({ "participants.user_id": 1, updated_at: -1 });

// Participants by conversation, in the header's order; they never change.
const known = new Map();

async function participantsOf(id) {
  let everyone = known.get(id);
  if (everyone === undefined) {
    const header = await conversations.findOne({ _id: id }, { projection: { "participants.user_id": 1 } });
    if (header === null) return [];
    everyone = header.participants.map((each) => each.user_id);
    known.set(id, everyone);
  }
  return everyone;
}

async function store(conversationId, everyone, sender, clientMessageId, body) {
  const id = `${conversationId}:${sender}:${clientMessageId}`;
  const stored = await messages.findOne({ _id: id });
  if (stored !== null) return { message: stored, header: null };
  const now = new Date();
  const inc = { last_seq: 1 };
  const last = { id, sender_id: sender, preview: body.slice(0, PREVIEW_CHARACTERS), sent_at: now };
  const set = { last, updated_at: now };
  everyone.forEach((each, place) => {
    if (each === sender) set[`participants.${place}.unread`] = 0;
    else inc[`participants.${place}.unread`] = 1;
  });
  const header = await quickConversations.findOneAndUpdate(
    { _id: conversationId },
    { $inc: inc, $set: set },
    { projection: { last_seq: 1, participants: 1 }, returnDocument: "after" },
  );
  const message = {
    _id: id,
    conversation_id: conversationId,
    seq: header.last_seq,
    sender_id: sender,
    client_message_id: clientMessageId,
    body,
    sent_at: now,
  };
  try {
    await messages.insertOne(message);
  } catch (error) {
    if (error.code !== DUPLICATE_KEY) throw error;
    return { message: await messages.findOne({ _id: id }), header: null };
  }
  return { message, header };
}

// --- Views ----------------------------------------------------------------------------------------------------

const ok = (data) => ({ ok: true, data });
const refused = (code) => ({ ok: false, error: { code, message: code, retryable: false } });

function messageView({ _id, conversation_id, seq, sender_id, client_message_id, body, sent_at }) {
  return { id: _id, conversation_id, seq, sender_id, client_message_id, body, sent_at };
}

function unreadView(header, { unread }) {
  return {
    conversation_id: header._id,
    unread_count: unread,
    last_read_seq: header.last_seq - unread,
    last_read_at: null,
  };
}

function conversationView(header, userId) {
  const { _id, created_by, created_at, updated_at, last_seq, last, participants } = header;
  return {
    id: _id,
    created_by,
    created_at,
    updated_at,
    last_seq,
    unread_count: participants.find((each) => each.user_id === userId).unread,
    last_message: last && { ...last, seq: last_seq },
    participants: participants.map((each) => ({ user: { id: each.user_id } })),
  };
}

// --- Events ---------------------------------------------------------------------------------------------------

async function startConversation(socket, payload) {
  const everyone = [...new Set([socket.data.userId, ...payload.participant_ids.map(String)])].sort();
  const direct = everyone.length === 2;
  const id = direct ? `direct:${everyone.join("|")}` : `group:${crypto.randomUUID()}`;
  const now = new Date();
  const header = await conversations.findOneAndUpdate(
    { _id: id },
    {
      $setOnInsert: {
        participants: everyone.map((each) => ({ user_id: each, unread: 0 })),
        created_by: socket.data.userId,
        last_seq: 0,
        last: null,
        created_at: now,
        updated_at: now,
      },
    },
    { upsert: true, returnDocument: "after" },
  );
  return ok({ conversation: conversationView(header, socket.data.userId) });
}

async function sendMessage(socket, payload) {
  const { conversation_id: conversationId, client_message_id: clientMessageId, body: raw } = payload ?? {};
  if (typeof conversationId !== "string" || typeof clientMessageId !== "string" || typeof raw !== "string")
    return refused("invalid_payload");
  const body = raw.trim();
  if (clientMessageId.length < 1 || clientMessageId.length > 64 || body.length < 1 || body.length > 4000)
    return refused("invalid_payload");
  const sender = socket.data.userId;
  const everyone = await participantsOf(conversationId);
  if (!everyone.includes(sender)) return refused("not_found");
  const { message, header } = await store(conversationId, everyone, sender, clientMessageId, body);
  const view = messageView(message);
  // A repeated message was pushed the first time.
  if (header !== null) setImmediate(push, socket, everyone, view, header);
  return ok({ message: view });
}

function push(socket, everyone, message, header) {
  socket.to(everyone).emit("new_message", { message });
  for (const each of header.participants)
    if (each.user_id !== message.sender_id) io.to(each.user_id).emit("unread_updated", unreadView(header, each));
}

async function listConversations(socket, payload) {
  const userId = socket.data.userId;
  const limit = Number(payload?.limit ?? 50);
  const seen = { "participants.user_id": userId, $or: [{ last_seq: { $gt: 0 } }, { created_by: userId }] };
  const found = await conversations.find(seen).sort({ updated_at: -1 }).limit(limit).toArray();
  const listed = found.map((header) => conversationView(header, userId));
  const total = listed.reduce((sum, each) => sum + each.unread_count, 0);
  return ok({ conversations: listed, next_cursor: null, total_unread: total });
}

async function listMessages(socket, payload) {
  const { conversation_id: conversationId, after_seq: after } = payload;
  const limit = Number(payload.limit ?? 50);
  if (!(await participantsOf(conversationId)).includes(socket.data.userId)) return refused("not_found");
  const newest = typeof after !== "number";
  const query = { conversation_id: conversationId, ...(newest ? {} : { seq: { $gt: after } }) };
  const found = await messages.find(query).sort({ seq: newest ? -1 : 1 }).limit(limit + 1).toArray();
  const page = found.slice(0, limit);
  if (newest) page.reverse();
  return ok({ messages: page.map(messageView), has_more: found.length > limit });
}

// --- Server ---------------------------------------------------------------------------------------------------

async function redisAdapter() {
  const publishing = createClient({ url: PEER_REDIS_URL });
  const subscribed = publishing.duplicate();
  await Promise.all([publishing.connect(), subscribed.connect()]);
  return createAdapter(publishing, subscribed);
}

const http = createServer((_, response) => response.end("ready"));
const io = new Server(http, {
  transports: ["websocket"],
  serveClient: false,
  perMessageDeflate: false,
  httpCompression: false,
  adapter: await redisAdapter(),
});

io.use((socket, next) => {
  try {
    socket.data.userId = jwt.verify(socket.handshake.auth.token, PEER_SECRET, { algorithms: ["HS256"] }).sub;
    next();
  } catch {
    next(new Error("unauthorized"));
  }
});

io.on("connection", (socket) => {
  // One message of a socket at a time, so that a sender's messages keep their order.
  let lane = Promise.resolve();
  const answering = (handler) => async (payload, ack) => {
    try {
      ack(await handler(socket, payload));
    } catch (error) {
      console.error(error);
      ack(refused("internal"));
    }
  };
  const sendNext = answering(sendMessage);
  socket.on("send_message", (payload, ack) => (lane = lane.then(() => sendNext(payload, ack))));
  socket.on("start_conversation", answering(startConversation));
  socket.on("list_conversations", answering(listConversations));
  socket.on("list_messages", answering(listMessages));
  socket.join(socket.data.userId);
  socket.emit("session_ready", { user: { id: socket.data.userId } });
});

http.listen(Number(PEER_PORT), "127.0.0.1");
process.on("SIGTERM", () => process.exit(0));
