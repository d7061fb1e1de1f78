"""Frames in: each once, to the right sockets, and no gap unnoticed."""

from types import SimpleNamespace
from typing import Any

import pytest

from contracts.codec import encode_frame
from contracts.frames import Frame, Push, Reply
from edge.delivery import FrameDelivery


class FakeSockets:
    """Two sockets of ada, one of bob; notes what they are sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self._sids = {"ada": ["a1", "a2"], "bob": ["b1"]}

    def of(self, user_id: str) -> list[Any]:
        return [FakeSocket(sid, self.sent) for sid in self._sids.get(user_id, [])]


class FakeSocket:
    """A socket that notes what it is sent."""

    def __init__(self, sid: str, sent: list[tuple[str, str]]) -> None:
        self.sid, self._sent = sid, sent

    def send(self, text: str) -> None:
        self._sent.append((self.sid, text))


class World:
    """A FrameDelivery and what came of it."""

    def __init__(self) -> None:
        self.sockets = FakeSockets()
        self.replies: list[int] = []
        self.gaps: list[str] = []
        relay = SimpleNamespace(resolve=lambda reply: self.replies.append(reply.request))
        self.delivery = FrameDelivery(relay, self.sockets, self.gaps.append)  # type: ignore[arg-type]

    def frame(self, number: int, source: str = "w1", **content: Any) -> None:
        frame = Frame(
            source=source, number=number, replies=content.get("replies", []), pushes=content.get("pushes", [])
        )
        self.delivery.receive(SimpleNamespace(amqp_headers={}, body=encode_frame(frame)))  # type: ignore[arg-type]


@pytest.fixture
def world() -> World:
    return World()


def push(*to: str, except_sid: str | None = None) -> Push:
    return Push(event="new_message", payload='{"x":1}', to=list(to), except_sid=except_sid)


def test_a_push_reaches_every_socket_but_the_one_that_sent_it(world: World) -> None:
    world.frame(1, pushes=[push("ada", "bob", "stranger", except_sid="a1")])
    assert world.sockets.sent == [("a2", '42["new_message",{"x":1}]'), ("b1", '42["new_message",{"x":1}]')]


def test_a_frame_that_comes_twice_is_handed_out_once(world: World) -> None:
    for _ in range(2):
        world.frame(1, replies=[Reply(request=7, ack="{}")], pushes=[push("bob")])
    assert world.replies == [7]
    assert len(world.sockets.sent) == 1
    assert world.gaps == []


def test_a_missing_frame_is_noticed_and_the_next_one_still_counts(world: World) -> None:
    world.frame(1)
    world.frame(3, pushes=[push("bob")])
    assert world.gaps == ["missing frames"]
    assert len(world.sockets.sent) == 1
    world.frame(4)
    assert world.gaps == ["missing frames"]


def test_the_first_frames_of_a_new_worker_may_be_missing_too(world: World) -> None:
    world.frame(2, source="new")
    assert world.gaps == ["missing frames"]


def test_numbers_are_counted_per_worker(world: World) -> None:
    world.frame(1, source="w1")
    world.frame(1, source="w2")
    world.frame(2, source="w1")
    assert world.gaps == []


def test_after_a_new_queue_a_jump_is_expected_once(world: World) -> None:
    world.frame(1)
    world.delivery.accept_gaps_once()
    world.frame(9)
    world.frame(11)
    assert world.gaps == ["missing frames"]


def test_bytes_that_are_no_frame_count_as_a_gap(world: World) -> None:
    world.delivery.receive(SimpleNamespace(amqp_headers={}, body=b"{}"))  # type: ignore[arg-type]
    assert world.gaps == ["undecodable frame"]
