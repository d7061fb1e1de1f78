// Drives sockets of the official client: takes one JSON command a line, writes one JSON line for each thing that happens.
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const sockets = new Map();
const tell = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const commands = {
  connect({ socket: name, url, auth, options }) {
    const socket = io(url, { transports: ["websocket"], auth, forceNew: true, ...options });
    sockets.set(name, socket);
    socket.on("connect", () => tell({ socket: name, happened: "connect", recovered: socket.recovered }));
    socket.on("connect_error", (error) =>
      tell({ socket: name, happened: "connect_error", message: error.message, data: error.data ?? null }),
    );
    socket.on("disconnect", (reason) => tell({ socket: name, happened: "disconnect", reason, active: socket.active }));
    socket.onAny((event, ...payloads) => tell({ socket: name, happened: "push", event, payloads }));
  },
  async emit({ socket: name, id, event, payloads }) {
    try {
      tell({ id, ack: await sockets.get(name).timeout(20_000).emitWithAck(event, ...payloads) });
    } catch (error) {
      tell({ id, failed: error.message });
    }
  },
  disconnect({ socket: name }) {
    sockets.get(name).disconnect();
  },
};

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const command = JSON.parse(line);
  commands[command.do](command);
});
lines.on("close", () => {
  for (const socket of sockets.values()) socket.disconnect();
});
