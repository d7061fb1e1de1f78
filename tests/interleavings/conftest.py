"""A database of its own for each test; see tests/integration."""

from tests.integration.conftest import counter, make_settings, store

__all__ = ["counter", "make_settings", "store"]
