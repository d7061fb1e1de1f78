"""The store's client says when it loses its primary, and when it has one again."""

import logging
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from infra.store.client import PrimaryListener


def test_a_primary_is_missed_and_welcomed_once(caplog: pytest.LogCaptureFixture) -> None:
    # Given a listener
    caplog.set_level(logging.INFO)
    watch = PrimaryListener("watched")

    # When the driver tells it again and again what it sees
    ups = []
    for has_primary in (False, True, True, False, False, True):
        description = SimpleNamespace(has_writable_server=lambda has=has_primary: has)
        watch.description_changed(SimpleNamespace(new_description=description))  # type: ignore[arg-type]
        ups.append(REGISTRY.get_sample_value("warren_store_up", {"database": "watched"}))

    # Then each change counts, and is said once
    assert ups == [0, 1, 1, 0, 0, 1]
    assert caplog.messages == [
        "The store has a primary.",
        "The store is away: it has no primary.",
        "The store has a primary.",
    ]
