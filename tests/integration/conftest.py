"""Handlers and adapters on a real store and a real broker, each test with a database and a virtual host of its own."""

from tests.support.store_and_broker import (
    bench,
    counter,
    either_store,
    make_settings,
    publisher,
    settings,
    store,
    vhost,
)

__all__ = ["bench", "counter", "either_store", "make_settings", "publisher", "settings", "store", "vhost"]
