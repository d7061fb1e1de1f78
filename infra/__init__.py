"""Adapters to the outside: broker, store, settings, logs, metrics, tracing, and operator commands. No chat rules."""
