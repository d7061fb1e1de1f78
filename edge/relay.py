"""Commands out, replies back.

Commands for one queue that come while the broker is still confirming an earlier message travel together in the
next one: a busy edge sends few large messages, an idle one sends each command at once. (The idea is Nagle's,
with the broker's confirm as the acknowledgement; no timer is involved.)

A command that the broker did not confirm may be lost, and so may a reply on a connection that broke. Until the reply's
time is up it is asked again: commands can be repeated, and whoever asked gets the ack that the first would have got.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from contracts.codec import AnyCommand, encode_bundle, encode_refusal
from contracts.commands import ClientCommand, Typing
from contracts.errors import BrokerUnavailable, Code, PublishUnknown, Refused, Unroutable
from contracts.frames import Reply
from contracts.topology import COMMANDS
from infra import metrics, tracing
from infra.backoff import backoff
from infra.broker.link import NO_CONNECTION
from infra.broker.publisher import Publisher

log = logging.getLogger(__name__)

#: Messages per command name that may wait for their confirm; what comes meanwhile is bundled.
OUTSTANDING = 2
#: Commands in one message at most, and commands that may wait to be published.
BUNDLE_ITEMS = 100
MAX_WAITING = 10_000
#: Seconds between two looks for replies that are overdue.
SWEEP_INTERVAL = 0.25
#: Seconds after which the log says again why commands are refused.
TELL_AGAIN = 10.0

#: Gets the JSON text of a command's ack, exactly once.
OnReply = Callable[[str], None]


@dataclass(slots=True)
class Pending:
    """A command whose reply is awaited until `deadline` (monotonic seconds); then `overdue` is its ack.

    `group` is what it was sent with, and `asked` how often it was sent.
    """

    name: str
    on_reply: OnReply
    deadline: float
    overdue: str
    group: Sequence[AnyCommand]
    asked: int = 1


class Relay:
    """The edge's way to the workers."""

    def __init__(self, publisher: Publisher, *, reply_timeout: float, replies_reach_us: Callable[[], bool]) -> None:
        self._publisher = publisher
        self._reply_timeout = reply_timeout
        self._replies_reach_us = replies_reach_us
        self._requests = 0
        self._pending: dict[int, Pending] = {}
        self._waiting: dict[str, list[Sequence[AnyCommand]]] = {}
        self._waiting_items = 0
        self._outstanding: dict[str, int] = {}
        self._publishing: set[asyncio.Task[None]] = set()
        self._told_at: dict[str, float] = {}

    def next_request(self) -> int:
        """A number for a command, never used before in this process; 0 stands for no reply wanted."""
        self._requests += 1
        return self._requests

    @property
    def pending(self) -> int:
        """Commands without a reply yet."""
        return len(self._pending)

    def send(
        self,
        commands: Sequence[AnyCommand],
        on_replies: Sequence[OnReply],
        *,
        timeout: float | None = None,
        overdue: str | None = None,
    ) -> None:
        """Send commands of one name in one message, in this order; each callback gets its ack.

        A broker that is known to be away, or too much waiting for it, is answered with `unavailable` at once. No
        reply in time is answered with `overdue`, by default the code `timeout`.
        """
        if (reason := self._unavailable_reason()) is not None:
            self._warn(reason)
            for on_reply in on_replies:
                on_reply(_UNAVAILABLE)
            return
        deadline = time.monotonic() + (timeout or self._reply_timeout)
        for command, on_reply in zip(commands, tracing.current.start_commands(commands, on_replies), strict=True):
            self._pending[command.request] = Pending(command.name, on_reply, deadline, overdue or _TIMEOUT, commands)
        self._enqueue(commands)

    def _unavailable_reason(self) -> str | None:
        """Why nothing can be sent now, or None."""
        link = self._publisher.link
        if link.channel is None:
            return link.not_ready_reason or NO_CONNECTION
        if not self._replies_reach_us():
            return "the connection for replies is down"
        return "too many commands wait for the broker" if self._waiting_items >= MAX_WAITING else None

    def _warn(self, reason: str) -> None:
        now = time.monotonic()
        if now - self._told_at.get(reason, -TELL_AGAIN) >= TELL_AGAIN:
            self._told_at[reason] = now
            log.warning("Commands are refused as unavailable: %s.", reason)

    def tell(self, command: AnyCommand) -> None:
        """Send a command that nobody waits for; when the broker is away it is not sent."""
        self._enqueue([command])

    def ask_again(self) -> None:
        """Send every client's command again that has no reply yet. Those that were sent together stay together."""
        groups = {id(pending.group): pending.group for pending in self._pending.values()}
        if again := sum(self._repeat(group) for group in groups.values()):
            log.warning("Asking %d commands again: they, or their replies, were on a connection that is gone.", again)

    def _repeat(self, group: Sequence[AnyCommand]) -> int:
        commands = [command for command in group if command.request in self._pending and _lasting(command)]
        if commands:
            for command in commands:
                self._pending[command.request].asked += 1
            metrics.ASKED_AGAIN.inc(len(commands))
            self._enqueue(commands)
        return len(commands)

    def resolve(self, reply: Reply) -> None:
        """Hand a reply to who waits for it; one that came late, or twice, is dropped."""
        pending = self._pending.pop(reply.request, None)
        if pending is not None:
            pending.on_reply(reply.ack)

    async def run(self) -> None:
        """Answer what is overdue, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            now = time.monotonic()
            overdue = [request for request, pending in self._pending.items() if pending.deadline <= now]
            for name, count in Counter(self._pending[request].name for request in overdue).items():
                metrics.OVERDUE.labels(name).inc(count)
                log.warning("%d %s commands had no reply in time: their workers are away or behind.", count, name)
            for request in overdue:
                pending = self._pending.pop(request)
                pending.on_reply(pending.overdue)
            metrics.PENDING.set(len(self._pending))

    # --- Publishing ---------------------------------------------------------------------------------------

    def _enqueue(self, commands: Sequence[AnyCommand]) -> None:
        name = commands[0].name
        waiting = self._waiting.setdefault(name, [])
        self._waiting_items += len(commands)
        waiting.append(commands)
        if len(waiting) == 1 and self._outstanding.get(name, 0) < OUTSTANDING:
            # At the end of this turn of the loop, so that what other sockets sent in it comes along.
            asyncio.get_running_loop().call_soon(self._flush, name)

    def _flush(self, name: str) -> None:
        while self._waiting[name] and self._outstanding.get(name, 0) < OUTSTANDING:
            bundle: list[AnyCommand] = []
            waiting = self._waiting[name]
            taken = 0
            # Commands that were sent together stay together: their order is someone's.
            while taken < len(waiting) and (not bundle or len(bundle) + len(waiting[taken]) <= BUNDLE_ITEMS):
                bundle.extend(waiting[taken])
                taken += 1
            del waiting[:taken]
            self._waiting_items -= len(bundle)
            self._outstanding[name] = self._outstanding.get(name, 0) + 1
            task = asyncio.create_task(self._publish(name, bundle))
            self._publishing.add(task)
            task.add_done_callback(self._publishing.discard)

    async def _publish(self, name: str, bundle: list[AnyCommand]) -> None:
        metrics.BUNDLE_ITEMS.observe(len(bundle))
        try:
            amqp_headers = tracing.current.inject_commands(bundle)
            await self._publisher.publish(
                COMMANDS, name, encode_bundle(bundle), persistent=name != "typing", amqp_headers=amqp_headers
            )
        except (BrokerUnavailable, Unroutable) as error:
            log.warning("%d %s commands were not accepted: %s", len(bundle), name, error)
            # What was asked before may have been accepted then.
            self._repeat_later([command for command in bundle if self._asked(command) > 1])
            for command in bundle:
                if self._asked(command) == 1:
                    self.resolve(Reply.model_construct(request=command.request, ack=_UNAVAILABLE))
        except PublishUnknown as error:
            # They may be there: the reply still comes, or the deadline says `timeout`.
            log.warning("%d %s commands are not confirmed: %s", len(bundle), name, error)
            self._repeat_later(bundle)
        finally:
            self._outstanding[name] -= 1
            self._flush(name)

    def _asked(self, command: AnyCommand) -> int:
        """How often a command that waits for its reply was sent; 0 when it waits no more."""
        pending = self._pending.get(command.request)
        return 0 if pending is None else pending.asked

    def _repeat_later(self, commands: Sequence[AnyCommand]) -> None:
        if commands:
            pause = backoff(max(self._asked(command) for command in commands))
            asyncio.get_running_loop().call_later(pause, self._repeat, commands)


def _lasting(command: AnyCommand) -> bool:
    """Whether it is a client's, and worth something later. What edges report they report anew by themselves."""
    return isinstance(command, ClientCommand) and not isinstance(command, Typing)


_UNAVAILABLE = encode_refusal(
    Refused(Code.UNAVAILABLE, "The service can't take this now; nothing was accepted.", retry_after_ms=1_000)
)
_TIMEOUT = encode_refusal(
    Refused(Code.TIMEOUT, "No answer in time: the outcome is unknown. Retry with the same client_message_id.")
)
