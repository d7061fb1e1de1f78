"""The load generator: Socket.IO clients that send messages, note acks and pushes, and check what was stored."""
