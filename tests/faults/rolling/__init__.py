"""A whole cluster on this machine, restarted part by part under load; then more and more workers drain a backlog."""
