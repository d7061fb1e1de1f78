"""From users to the edges that hold their sockets: one look-up and one frame per edge for a whole batch."""

from collections import defaultdict
from dataclasses import dataclass

from contracts.frames import Delivery, Frame, Reply
from infra.store.sessions import Sessions
from workers.effects import Effects


@dataclass(frozen=True)
class RoutedFrame:
    """A frame and where it goes; `epoch` is the newest registration of the edge that was seen, if any."""

    edge_id: str
    epoch: int | None
    frame: Frame


#: Characters of payloads in one frame: RabbitMQ 4 takes messages of up to 16 MiB, and no edge should wait long.
FRAME_SIZE = 1 << 20


class Router:
    """Groups what a batch has to send by edge, and numbers the frames of this process for each edge."""

    #: Edges whose counters are kept; the oldest goes first. A restarted edge has a new id, so old ones are dead.
    MAX_EDGES = 10_000

    def __init__(self, sessions: Sessions, source: str) -> None:
        self._sessions = sessions
        self._source = source
        self._numbers: dict[str, int] = {}

    async def frames(self, effects: Effects) -> list[RoutedFrame]:
        """Look up the sessions of everyone who is to get something, and write one frame per edge.

        Must be called after the batch's writes are durable: whoever opens a session after this look-up takes a
        snapshot that shows them. Raises StoreUnavailable.
        """
        users = {user for delivery in effects.deliveries for user in delivery.to}
        located = await self._sessions.locate(users) if users else []
        edges_of: dict[str, list[str]] = defaultdict(list)
        epochs: dict[str, int] = {}
        for session in located:
            edges_of[session.user_id].append(session.edge_id)
            epochs[session.edge_id] = max(session.epoch, epochs.get(session.edge_id, 0))
        deliveries: dict[str, list[Delivery]] = defaultdict(list)
        for delivery in effects.deliveries:
            for edge_id, to in _by_edge(delivery.to, edges_of).items():
                deliveries[edge_id].append(delivery if len(to) == len(delivery.to) else _narrowed(delivery, to))
        routed = []
        for edge_id in {**effects.replies, **deliveries}:
            for part in _parts([*effects.replies.get(edge_id, []), *deliveries.get(edge_id, [])]):
                frame = Frame.model_construct(
                    source=self._source,
                    number=self._next_number(edge_id),
                    replies=[one for one in part if isinstance(one, Reply)],
                    deliveries=[one for one in part if isinstance(one, Delivery)],
                )
                routed.append(RoutedFrame(edge_id, epochs.get(edge_id), frame))
        return routed

    def _next_number(self, edge_id: str) -> int:
        number = self._numbers.pop(edge_id, 0) + 1
        self._numbers[edge_id] = number
        if len(self._numbers) > self.MAX_EDGES:
            del self._numbers[next(iter(self._numbers))]
        return number


def _parts(contents: list[Reply | Delivery]) -> list[list[Reply | Delivery]]:
    """Cut what one edge gets into frames; nearly always that is one."""
    parts: list[list[Reply | Delivery]] = [[]]
    size = 0
    for one in contents:
        length = len(one.ack) if isinstance(one, Reply) else len(one.payload)
        if size + length > FRAME_SIZE and parts[-1]:
            parts.append([])
            size = 0
        parts[-1].append(one)
        size += length
    return parts


def _by_edge(users: list[str], edges_of: dict[str, list[str]]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for user in users:
        for edge_id in edges_of.get(user, ()):
            grouped.setdefault(edge_id, []).append(user)
    return grouped


def _narrowed(delivery: Delivery, to: list[str]) -> Delivery:
    return Delivery.model_construct(
        event=delivery.event, payload=delivery.payload, to=to, except_sid=delivery.except_sid
    )
