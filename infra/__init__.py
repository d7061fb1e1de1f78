"""Adapters to the outside: broker, store, settings, logs, metrics, local services. No chat rules."""
