"""Frames in: replies to the relay, pushes to sockets. Also notices when a frame is missing."""

import logging
import time
from collections.abc import Callable

from contracts.codec import decode_frame
from contracts.errors import DecodeError
from contracts.frames import Delivery as Push
from contracts.frames import Frame
from edge.relay import Relay
from edge.sockets import Sockets
from infra import metrics, tracing
from infra.broker.channel import IncomingMessage

log = logging.getLogger(__name__)

#: Worker processes whose frame numbers are kept; the one heard of longest ago goes first.
MAX_SOURCES = 1_000


class FrameDelivery:
    """Hands out what frames carry. `on_gap` is called when pushes were lost on the way here."""

    def __init__(self, relay: Relay, sockets: Sockets, on_gap: Callable[[str], None]) -> None:
        self._relay = relay
        self._sockets = sockets
        self._on_gap = on_gap
        self._numbers: dict[str, int | None] = {}

    def receive(self, delivery: IncomingMessage) -> None:
        """Take a message from the edge's queue."""
        if delivery.headers:
            with tracing.current.delivery_span(delivery.headers):
                self._receive(delivery)
        else:
            self._receive(delivery)

    def _receive(self, delivery: IncomingMessage) -> None:
        started = time.perf_counter()
        try:
            frame = decode_frame(delivery.body)
        except DecodeError as error:
            log.error("A frame cannot be decoded: %s", error)
            self._on_gap("undecodable frame")
            return
        if self._is_new(frame):
            for reply in frame.replies:
                self._relay.resolve(reply)
            for push in frame.deliveries:
                self._push(push)
        metrics.FRAME_SECONDS.observe(time.perf_counter() - started)

    def start_over(self) -> None:
        """Expect a jump in everyone's numbers: the edge has a new queue, and tells its clients anyway."""
        self._numbers = dict.fromkeys(self._numbers)

    def _is_new(self, frame: Frame) -> bool:
        """Whether the frame was not seen before; reports a gap in front of it."""
        last = self._numbers.pop(frame.source, 0)
        self._numbers[frame.source] = frame.number
        if len(self._numbers) > MAX_SOURCES:
            del self._numbers[next(iter(self._numbers))]
        if last is None or frame.number == last + 1:
            return True
        if frame.number <= last:
            self._numbers[frame.source] = last
            return False
        self._on_gap("missing frames")
        return True

    def _push(self, push: Push) -> None:
        text = f'42["{push.event}",{push.payload}]'
        delivered = 0
        for user_id in push.to:
            # A copy: a socket that does not read is cut off meanwhile.
            for socket in tuple(self._sockets.of(user_id)):
                if socket.sid != push.except_sid:
                    socket.send(text)
                    delivered += 1
        metrics.DELIVERED.labels(push.event).inc(delivered)
