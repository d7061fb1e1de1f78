"""Delivers frames: replies go to the relay, pushes to sockets. Detects missing frames."""

import logging
import time
from collections.abc import Callable

from contracts.codec import decode_frame
from contracts.errors import DecodeError
from contracts.frames import Frame, Push
from edge.packets import event_packet
from edge.relay import Relay
from edge.sockets import Sockets
from infra import metrics, tracing
from infra.broker.channel import IncomingMessage

log = logging.getLogger(__name__)

#: Sources (worker processes) whose frame numbers are kept; the least recently heard one goes first.
MAX_SOURCES = 1_000


class FrameDelivery:
    """Delivers the frames of the edge's queue. `on_gap` is called with a reason when pushes were lost on their way."""

    def __init__(self, relay: Relay, sockets: Sockets, on_gap: Callable[[str], None]) -> None:
        self._relay = relay
        self._sockets = sockets
        self._on_gap = on_gap
        #: The last number of each source; None when any next number is accepted.
        self._numbers: dict[str, int | None] = {}

    def receive(self, message: IncomingMessage) -> None:
        """Deliver the frame in a message from the edge's queue."""
        if message.amqp_headers:
            with tracing.current.delivery_span(message.amqp_headers):
                self._receive(message)
        else:
            self._receive(message)

    def _receive(self, message: IncomingMessage) -> None:
        started = time.perf_counter()
        try:
            frame = decode_frame(message.body)
        except DecodeError as error:
            log.error("A frame cannot be decoded and is dropped; all sockets take a snapshot: %s", error)
            self._on_gap("undecodable frame")
            return
        if self._is_new(frame):
            for reply in frame.replies:
                self._relay.resolve(reply)
            for push in frame.pushes:
                self._push(push)
        metrics.FRAME_SECONDS.observe(time.perf_counter() - started)

    def accept_gaps_once(self) -> None:
        """Accept any next number of each source: the edge has a new queue, and all sockets take a snapshot anyway."""
        self._numbers = dict.fromkeys(self._numbers)

    def _is_new(self, frame: Frame) -> bool:
        """Whether the frame was not received before. Reports a gap before it."""
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
        text = event_packet(push.event, push.payload)
        delivered = 0
        for user_id in push.to:
            # A copy of the list: sending evicts a socket that does not read, which changes it.
            for socket in tuple(self._sockets.of(user_id)):
                if socket.sid != push.except_sid:
                    socket.send(text)
                    delivered += 1
        metrics.DELIVERED.labels(push.event).inc(delivered)
