"""A database of its own for each test; see tests/integration."""

from tests.support.store_and_broker import counter, make_settings, store

__all__ = ["counter", "make_settings", "store"]
