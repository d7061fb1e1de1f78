"""Thin Socket.IO nodes: connect, authenticate, limit, relay, deliver. No MongoDB, no business rule."""
