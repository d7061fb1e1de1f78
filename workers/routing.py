"""Routes replies and pushes to the edges that hold the sockets: one look-up and one frame per edge for a batch."""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from contracts.frames import Frame, Push, Reply
from infra.store.sessions import SessionDirectory
from workers.effects import Effects

#: Characters in one frame. RabbitMQ 4 takes messages of up to 16 MiB, and a character takes up to 6 bytes (`\\u0000`);
#: a smaller frame keeps an edge from doing nothing else for long.
MAX_FRAME_CHARACTERS = 1 << 20
#: Recipients of one push in one frame; a push to more becomes several.
MAX_RECIPIENTS = 5_000
#: Characters of a reply or push besides its text and its recipients.
OVERHEAD = 100
#: Edges whose frame numbers are kept; the least recently used goes first. A restarted edge has a new id, so the
#: oldest entries belong to edges that no longer exist.
MAX_EDGES = 10_000
#: Seconds after an edge's last frame at which it gets an empty one, which shows a gap if the last one was lost. The
#: second one is for an edge whose queue was still overflowing at the time of the first. An edge that does not read for
#: longer loses its lease, and its clients take a snapshot.
TRAILING_AFTER = (2.0, 30.0)


@dataclass(frozen=True)
class RoutedFrame:
    """A frame and the edge that it goes to. `epoch` is the edge's newest registration, or None for replies only."""

    edge_id: str
    epoch: int | None
    frame: Frame


@dataclass
class _LastFrame:
    """The last frame for one edge: its number, when it was made, and how many empty ones have followed it."""

    number: int
    at: float
    trailing: int = 0


class Router:
    """Groups what a batch has to send by edge, and numbers the frames of one source for each edge.

    `source` names one runner of one process: an edge expects its numbers to be 1, 2, 3, … without a gap.
    """

    def __init__(self, sessions: SessionDirectory, source: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._sessions = sessions
        self._source = source
        self._clock = clock
        self._last: dict[str, _LastFrame] = {}

    async def frames(self, effects: Effects) -> list[RoutedFrame]:
        """Look up the sessions of every recipient and build one frame per edge, or more when it would be too large.

        Must be called after the batch's writes are durable: a session that opens after this look-up takes a snapshot,
        which then contains those writes. Raises StoreUnavailable.
        """
        recipients = {user_id for push in effects.pushes for user_id in push.to}
        sessions = await self._sessions.locate(recipients) if recipients else []
        edges_of: dict[str, list[str]] = defaultdict(list)
        epochs: dict[str, int] = {}
        for session in sessions:
            edges_of[session.user_id].append(session.edge_id)
            epochs[session.edge_id] = max(session.epoch, epochs.get(session.edge_id, 0))
        pushes: dict[str, list[Push]] = defaultdict(list)
        for push in effects.pushes:
            for edge_id, to in _by_edge(push.to, edges_of).items():
                pushes[edge_id].extend(_addressed_to(to, push))
        routed = []
        for edge_id in {**effects.replies, **pushes}:
            for part in _split([*effects.replies.get(edge_id, []), *pushes.get(edge_id, [])]):
                frame = Frame.model_construct(
                    source=self._source,
                    number=self._next_number(edge_id),
                    replies=[content for content in part if isinstance(content, Reply)],
                    pushes=[content for content in part if isinstance(content, Push)],
                )
                routed.append(RoutedFrame(edge_id, epochs.get(edge_id), frame))
        return routed

    def trailing_frames(self) -> list[RoutedFrame]:
        """Empty frames for the edges whose last frame was made `TRAILING_AFTER` seconds ago."""
        now = self._clock()
        frames = []
        for edge_id, last in self._last.items():
            if last.trailing < len(TRAILING_AFTER) and now - last.at >= TRAILING_AFTER[last.trailing]:
                last.trailing += 1
                last.number += 1
                frame = Frame.model_construct(source=self._source, number=last.number, replies=[], pushes=[])
                frames.append(RoutedFrame(edge_id, None, frame))
        return frames

    def end_trailing(self, edge_id: str) -> None:
        """Make no more empty frames for an edge that has no queue, until there is something to send to it."""
        self._last[edge_id].trailing = len(TRAILING_AFTER)

    def _next_number(self, edge_id: str) -> int:
        last = self._last.pop(edge_id, None)
        number = last.number + 1 if last is not None else 1
        self._last[edge_id] = _LastFrame(number, self._clock())
        if len(self._last) > MAX_EDGES:
            del self._last[next(iter(self._last))]
        return number


def _split(contents: list[Reply | Push]) -> list[list[Reply | Push]]:
    """Split what one edge gets into frames of a bounded size; nearly always there is one."""
    parts: list[list[Reply | Push]] = [[]]
    size = 0
    for content in contents:
        length = _characters(content)
        if size + length > MAX_FRAME_CHARACTERS and parts[-1]:
            parts.append([])
            size = 0
        parts[-1].append(content)
        size += length
    return parts


def _by_edge(user_ids: list[str], edges_of: dict[str, list[str]]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for user_id in user_ids:
        for edge_id in edges_of.get(user_id, ()):
            grouped.setdefault(edge_id, []).append(user_id)
    return grouped


def _addressed_to(user_ids: list[str], push: Push) -> list[Push]:
    if len(user_ids) == len(push.to) <= MAX_RECIPIENTS:
        return [push]
    return [
        Push.model_construct(
            event=push.event,
            payload=push.payload,
            to=user_ids[start : start + MAX_RECIPIENTS],
            except_sid=push.except_sid,
        )
        for start in range(0, len(user_ids), MAX_RECIPIENTS)
    ]


def _characters(content: Reply | Push) -> int:
    if isinstance(content, Reply):
        return OVERHEAD + len(content.ack)
    return OVERHEAD + len(content.payload) + sum(len(user_id) + 3 for user_id in content.to)
