"""A relay in front of a publisher whose confirms the test gives."""

import pytest

from edge.relay import Relay
from tests.support.answers import Answers
from tests.unit.edge.fakes import FakePublisher


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def relay(publisher: FakePublisher) -> Relay:
    return Relay(publisher, reply_timeout=10, can_receive_replies=lambda: True)  # type: ignore[arg-type]


@pytest.fixture
def answers() -> Answers:
    return Answers()
