"""Routing: one look-up for a batch, one numbered frame per edge, and no frame too large."""

import pytest

from contracts.codec import encode_frame
from contracts.errors import StoreUnavailable
from contracts.frames import Frame, Push, Reply
from infra.store.sessions import Session
from tests.unit.workers.fakes import FakeDirectory
from workers import routing
from workers.effects import Effects
from workers.routing import MAX_FRAME_CHARACTERS, MAX_RECIPIENTS, RoutedFrame, Router

ADA_ON_E1, BOB_ON_E1, BOB_ON_E2 = Session("ada", "e1", 7), Session("bob", "e1", 7), Session("bob", "e2", 3)


def router_of(*sessions: Session, source: str = "w1") -> tuple[Router, FakeDirectory]:
    directory = FakeDirectory(*sessions)
    return Router(directory, source), directory  # type: ignore[arg-type]


def push(*to: str, payload: str = "{}", except_sid: str | None = None) -> Push:
    return Push(event="typing", payload=payload, to=list(to), except_sid=except_sid)


def reply(request: int, ack: str = '{"ok":true}') -> Reply:
    return Reply(request=request, ack=ack)


def by_edge(frames: list[RoutedFrame]) -> dict[str, Frame]:
    """Frames by edge, each edge having one."""
    assert len({routed.edge_id for routed in frames}) == len(frames)
    return {routed.edge_id: routed.frame for routed in frames}


# --- Where to ---------------------------------------------------------------------------------------------


async def test_a_reply_goes_to_the_edge_that_asked_without_a_look_up() -> None:
    router, directory = router_of()
    frames = await router.frames(Effects(replies={"e1": [reply(1), reply(2)], "e2": [reply(3)]}))
    assert {edge: [r.request for r in frame.replies] for edge, frame in by_edge(frames).items()} == {
        "e1": [1, 2],
        "e2": [3],
    }
    assert [routed.epoch for routed in frames] == [None, None]
    assert directory.asked == []


async def test_a_push_goes_to_every_edge_that_holds_one_of_its_users_and_names_those_alone() -> None:
    router, directory = router_of(ADA_ON_E1, BOB_ON_E1, BOB_ON_E2)
    frames = by_edge(await router.frames(Effects(pushes=[push("ada", "bob", "nobody", except_sid="s1")])))
    assert {edge: frame.pushes[0].to for edge, frame in frames.items()} == {"e1": ["ada", "bob"], "e2": ["bob"]}
    assert all(frame.pushes[0].except_sid == "s1" for frame in frames.values())
    assert directory.asked == [{"ada", "bob", "nobody"}]


async def test_a_whole_batch_is_one_look_up_and_one_frame_for_each_edge_in_the_batchs_order() -> None:
    # Given a batch with replies and pushes for two edges
    router, directory = router_of(ADA_ON_E1, BOB_ON_E2)
    effects = Effects(
        replies={"e1": [reply(1)], "e3": [reply(2)]},
        pushes=[push("ada", payload="1"), push("bob", payload="2"), push("ada", "bob", payload="3")],
    )

    # Then each gets one frame with what is its own
    frames = by_edge(await router.frames(effects))
    assert {edge: [p.payload for p in frame.pushes] for edge, frame in frames.items()} == {
        "e1": ["1", "3"],
        "e2": ["2", "3"],
        "e3": [],
    }
    assert len(directory.asked) == 1


async def test_what_nobody_is_there_for_is_no_frame() -> None:
    router, _ = router_of()
    assert await router.frames(Effects(pushes=[push("ada"), push()])) == []
    assert await router.frames(Effects()) == []


async def test_a_frame_carries_the_newest_registration_of_its_edge() -> None:
    router, _ = router_of(Session("ada", "e1", 7), Session("bob", "e1", 9), Session("cy", "e1", 8))
    (routed,) = await router.frames(Effects(pushes=[push("ada", "bob", "cy")]))
    assert routed.epoch == 9


async def test_a_store_that_is_away_is_the_callers_to_wait_for_and_takes_no_number() -> None:
    # Given a router whose store is away
    router, directory = router_of(ADA_ON_E1)
    directory.is_away = True
    effects = Effects(replies={"e1": [reply(1)]}, pushes=[push("ada")])
    with pytest.raises(StoreUnavailable):
        await router.frames(effects)

    # When it is back, then no number is missing
    directory.is_away = False
    (routed,) = await router.frames(effects)
    assert routed.frame.number == 1


# --- Numbers ----------------------------------------------------------------------------------------------


async def test_frames_are_numbered_for_each_edge_from_1_without_a_gap() -> None:
    router, _ = router_of()
    numbers: dict[str, list[int]] = {"e1": [], "e2": []}
    for edges in (("e1",), ("e1", "e2"), ("e2",), ("e1", "e2")):
        for routed in await router.frames(Effects(replies={edge: [reply(1)] for edge in edges})):
            numbers[routed.edge_id].append(routed.frame.number)
            assert routed.frame.source == "w1"
    assert numbers == {"e1": [1, 2, 3], "e2": [1, 2, 3]}


async def test_numbers_of_the_edge_heard_of_longest_ago_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a router that remembers two edges, and frames for three
    monkeypatch.setattr(routing, "MAX_EDGES", 2)
    router, _ = router_of()
    for edge in ("e1", "e2", "e1", "e3"):
        await router.frames(Effects(replies={edge: [reply(1)]}))

    # Then the one that it forgot starts anew
    numbers = [
        (await router.frames(Effects(replies={edge: [reply(1)]})))[0].frame.number for edge in ("e1", "e3", "e2")
    ]
    assert numbers == [3, 2, 1]


async def test_an_edge_that_gets_nothing_more_gets_two_empty_frames_and_then_none() -> None:
    # Given a router, and frames for two edges, of which one gets another one a second later
    now = 0.0
    router = Router(FakeDirectory(), "w1", clock=lambda: now)  # type: ignore[arg-type]
    await router.frames(Effects(replies={"e1": [reply(1)], "e2": [reply(2)]}))
    now = 1.0
    await router.frames(Effects(replies={"e2": [reply(3)]}))

    # When time passes
    made: dict[float, dict[str, int]] = {}
    for now in (1.9, 2.0, 2.5, 3.0, 30.0, 31.0, 1_000.0):
        frames = by_edge(router.trailing_frames())
        assert not any(frame.replies or frame.pushes for frame in frames.values())
        made[now] = {edge_id: frame.number for edge_id, frame in frames.items()}

    # Then each gets one soon and one late, numbered like any other
    assert made == {1.9: {}, 2.0: {"e1": 2}, 2.5: {}, 3.0: {"e2": 3}, 30.0: {"e1": 3}, 31.0: {"e2": 4}, 1_000.0: {}}
    (routed,) = await router.frames(Effects(replies={"e1": [reply(4)]}))
    assert routed.frame.number == 4


# --- Sizes ------------------------------------------------------------------------------------------------


async def test_what_is_too_much_for_one_frame_becomes_several_in_order() -> None:
    # Given more than one frame takes
    router, _ = router_of(ADA_ON_E1)
    third = "x" * (MAX_FRAME_CHARACTERS // 3)
    effects = Effects(replies={"e1": [reply(n, third) for n in (1, 2, 3, 4)]}, pushes=[push("ada", payload=third)])

    # Then frames follow each other by number, and nothing is lost, torn or out of order
    frames = [routed.frame for routed in await router.frames(effects)]
    assert [frame.number for frame in frames] == [1, 2, 3]
    assert [r.request for frame in frames for r in frame.replies] == [1, 2, 3, 4]
    assert len(frames[-1].pushes) == 1
    assert all(len(encode_frame(frame)) <= 1.1 * MAX_FRAME_CHARACTERS for frame in frames)


async def test_one_reply_that_is_larger_than_a_frame_should_be_has_a_frame_of_its_own() -> None:
    router, _ = router_of()
    huge = "x" * (2 * MAX_FRAME_CHARACTERS)
    frames = [r.frame for r in await router.frames(Effects(replies={"e1": [reply(1), reply(2, huge), reply(3)]}))]
    assert [[r.request for r in frame.replies] for frame in frames] == [[1], [2], [3]]


async def test_a_push_to_very_many_users_of_one_edge_is_several() -> None:
    users = [f"u{number}" for number in range(2 * MAX_RECIPIENTS + 1)]
    router, _ = router_of(*(Session(user, "e1", 1) for user in users))
    frames = [routed.frame for routed in await router.frames(Effects(pushes=[push(*users)]))]
    pushes = [one for frame in frames for one in frame.pushes]
    assert [len(one.to) for one in pushes] == [MAX_RECIPIENTS, MAX_RECIPIENTS, 1]
    assert [user for one in pushes for user in one.to] == users
