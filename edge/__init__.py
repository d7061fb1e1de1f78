"""Thin Socket.IO servers: accept, authenticate, limit, relay, deliver. No MongoDB and no business rules."""
