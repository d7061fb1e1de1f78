"""Sends commands to workers and hands back their replies.

Commands for one queue that arrive while the broker is confirming an earlier message leave together in the next one. A
busy edge sends few large messages; an idle one sends each command at once. This is Nagle's algorithm (RFC 896) with the
broker's confirm as the acknowledgement; no timer is involved.

A command without a confirm may be lost, and so may a reply when its connection breaks. Such commands are sent again
until their deadline. Workers handle a repeated command without a second effect, and the client gets one ack.
"""

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from contracts.codec import AnyCommand, encode_bundle, encode_refusal
from contracts.commands import ClientCommand, SendMessage, Typing
from contracts.errors import BrokerUnavailable, Code, PublishUnknown, Refused, Unroutable, internal
from contracts.frames import Reply
from contracts.topology import COMMANDS
from infra import metrics, tracing
from infra.backoff import backoff
from infra.broker.link import NO_CONNECTION
from infra.broker.publisher import Publisher

log = logging.getLogger(__name__)

#: Unconfirmed messages per command name; further commands are bundled.
MAX_UNCONFIRMED = 2
#: Bits of the first request number; later ones stay far below 2^53, which JSON numbers hold exactly.
FIRST_REQUEST_BITS = 52
#: Commands in one message, and commands that wait to be published, at most.
BUNDLE_ITEMS = 100
MAX_WAITING = 10_000
#: Seconds between two checks for replies that are overdue.
SWEEP_INTERVAL = 0.25
#: Seconds between two warnings that name the same reason to refuse commands.
WARNING_INTERVAL = 10.0

#: Called exactly once with the JSON text of a command's ack.
OnReply = Callable[[str], None]


@dataclass(slots=True)
class Pending:
    """A command whose reply is expected until `deadline` (monotonic seconds); after it, the ack is `timeout_ack`.

    `group` holds the commands that must stay together with it, and `attempts` is how often it was sent.
    """

    name: str
    on_reply: OnReply
    deadline: float
    timeout_ack: str
    group: Sequence[AnyCommand]
    attempts: int = 1


class Relay:
    """Publishes the commands of one edge and resolves their replies.

    `can_receive_replies` tells whether the connection for replies is up: without it, commands are refused.
    """

    def __init__(self, publisher: Publisher, *, reply_timeout: float, can_receive_replies: Callable[[], bool]) -> None:
        self._publisher = publisher
        self._reply_timeout = reply_timeout
        self._can_receive_replies = can_receive_replies
        # Random, because an edge that restarts with the same id may receive replies to its earlier process.
        self._last_request = secrets.randbits(FIRST_REQUEST_BITS)
        self._pending: dict[int, Pending] = {}
        self._waiting: dict[str, list[Sequence[AnyCommand]]] = {}
        self._waiting_items = 0
        self._unconfirmed: dict[str, int] = {}
        self._publishing: set[asyncio.Task[None]] = set()
        self._warned_at: dict[str, float] = {}

    def next_request(self) -> int:
        """A request number that this process has not used before. 0 stands for a command without a reply."""
        self._last_request += 1
        return self._last_request

    @property
    def pending(self) -> int:
        """Number of commands without a reply."""
        return len(self._pending)

    def send(
        self,
        commands: Sequence[AnyCommand],
        on_replies: Sequence[OnReply],
        *,
        timeout: float | None = None,
        timeout_ack: str | None = None,
    ) -> None:
        """Send commands of one name in one message, in this order. Each callback gets the ack of its command.

        The ack is `unavailable` at once when the broker is known to be away or too many commands wait for it. Without a
        reply after `timeout` seconds (`WARREN_REPLY_TIMEOUT` by default), the ack is `timeout_ack`, by default the
        error `timeout`.
        """
        if (reason := self._unavailable_reason()) is not None:
            self._warn(reason)
            for on_reply in on_replies:
                on_reply(_UNAVAILABLE)
            return
        deadline = time.monotonic() + (timeout or self._reply_timeout)
        for command, on_reply in zip(commands, tracing.current.start_commands(commands, on_replies), strict=True):
            default_ack = _MESSAGE_TIMEOUT if isinstance(command, SendMessage) else _TIMEOUT
            self._pending[command.request] = Pending(
                command.name, on_reply, deadline, timeout_ack or default_ack, commands
            )
        self._enqueue(commands)

    def resend_pending(self) -> None:
        """Send every client command without a reply again. Commands of one group stay together."""
        groups = {id(pending.group): pending.group for pending in self._pending.values()}
        if resent := sum(self._resend(group) for group in groups.values()):
            log.warning("Resent %d commands: they or their replies may be lost with a broken connection.", resent)

    def resolve(self, reply: Reply) -> None:
        """Pass a reply to its command's callback. A late or repeated reply is dropped."""
        pending = self._pending.pop(reply.request, None)
        if pending is not None:
            pending.on_reply(reply.ack)

    async def run(self) -> None:
        """Answer commands whose reply is overdue, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            now = time.monotonic()
            overdue = [request for request, pending in self._pending.items() if pending.deadline <= now]
            for name, count in Counter(self._pending[request].name for request in overdue).items():
                metrics.OVERDUE.labels(name).inc(count)
                log.warning("%d %s commands had no reply in time: their workers are away or behind.", count, name)
            for request in overdue:
                pending = self._pending.pop(request)
                pending.on_reply(pending.timeout_ack)
            metrics.PENDING.set(len(self._pending))

    # --- Refusing and resending ---------------------------------------------------------------------------

    def _unavailable_reason(self) -> str | None:
        """Why no command can be sent now, or None."""
        link = self._publisher.link
        if link.channel is None:
            return link.not_ready_reason or NO_CONNECTION
        if not self._can_receive_replies():
            return "the connection for replies is down"
        return "too many commands wait for the broker" if self._waiting_items >= MAX_WAITING else None

    def _warn(self, reason: str) -> None:
        now = time.monotonic()
        if now - self._warned_at.get(reason, -WARNING_INTERVAL) >= WARNING_INTERVAL:
            self._warned_at[reason] = now
            log.warning("Commands are refused as unavailable: %s.", reason)

    def _resend(self, group: Sequence[AnyCommand]) -> int:
        commands = [command for command in group if command.request in self._pending and _can_be_resent(command)]
        if commands:
            for command in commands:
                self._pending[command.request].attempts += 1
            metrics.RESENT.inc(len(commands))
            self._enqueue(commands)
        return len(commands)

    def _resend_later(self, commands: Sequence[AnyCommand]) -> None:
        if commands:
            pause = backoff(max(self._attempts(command) for command in commands))
            asyncio.get_running_loop().call_later(pause, self._resend, commands)

    def _attempts(self, command: AnyCommand) -> int:
        """How often a pending command was sent; 0 when it is not pending."""
        pending = self._pending.get(command.request)
        return 0 if pending is None else pending.attempts

    # --- Publishing ---------------------------------------------------------------------------------------

    def _enqueue(self, commands: Sequence[AnyCommand]) -> None:
        name = commands[0].name
        waiting = self._waiting.setdefault(name, [])
        self._waiting_items += len(commands)
        waiting.append(commands)
        if len(waiting) == 1 and self._unconfirmed.get(name, 0) < MAX_UNCONFIRMED:
            # At the end of this iteration of the event loop, so that commands of other sockets join the bundle.
            asyncio.get_running_loop().call_soon(self._flush, name)

    def _flush(self, name: str) -> None:
        while self._waiting[name] and self._unconfirmed.get(name, 0) < MAX_UNCONFIRMED:
            bundle: list[AnyCommand] = []
            waiting = self._waiting[name]
            taken = 0
            # A group is never split: its commands must be stored in its order.
            while taken < len(waiting) and (not bundle or len(bundle) + len(waiting[taken]) <= BUNDLE_ITEMS):
                bundle.extend(waiting[taken])
                taken += 1
            del waiting[:taken]
            self._waiting_items -= len(bundle)
            self._unconfirmed[name] = self._unconfirmed.get(name, 0) + 1
            task = asyncio.create_task(self._publish(name, bundle))
            self._publishing.add(task)
            task.add_done_callback(self._publishing.discard)

    async def _publish(self, name: str, bundle: list[AnyCommand]) -> None:
        metrics.BUNDLE_ITEMS.observe(len(bundle))
        try:
            body = self._encode(bundle)
            if bundle:
                amqp_headers = tracing.current.inject_commands(bundle)
                await self._publisher.publish(
                    COMMANDS, name, body, persistent=name != "typing", amqp_headers=amqp_headers
                )
        except (BrokerUnavailable, Unroutable) as error:
            log.warning("%d %s commands were not accepted: %s", len(bundle), name, error)
            # An earlier attempt of a resent command may have been accepted: its outcome is unknown.
            self._resend_later([command for command in bundle if self._attempts(command) > 1])
            for command in bundle:
                if self._attempts(command) == 1:
                    self.resolve(Reply.model_construct(request=command.request, ack=_UNAVAILABLE))
        except PublishUnknown as error:
            # The broker may have accepted them: either the reply arrives, or the ack is `timeout`.
            log.warning("%d %s commands are not confirmed: %s", len(bundle), name, error)
            self._resend_later(bundle)
        except Exception:
            log.exception("%d %s commands cannot be published; their acks are `internal`.", len(bundle), name)
            for command in bundle:
                self._fail(command)
        finally:
            self._unconfirmed[name] -= 1
            self._flush(name)

    def _encode(self, bundle: list[AnyCommand]) -> bytes:
        """Encode a bundle. Removes each command that cannot be encoded, and answers it with `internal`."""
        try:
            return encode_bundle(bundle)
        except ValueError:
            for command in list(bundle):
                try:
                    encode_bundle([command])
                except ValueError:
                    log.exception("A %s command cannot be encoded; its ack is `internal`.", command.name)
                    bundle.remove(command)
                    self._fail(command)
        return encode_bundle(bundle)

    def _fail(self, command: AnyCommand) -> None:
        refusal = internal(f"{command.edge_id}/{command.request}")
        self.resolve(Reply.model_construct(request=command.request, ack=encode_refusal(refusal)))


def _can_be_resent(command: AnyCommand) -> bool:
    """Whether it is a client's command that is still useful later. Edges repeat their own reports by themselves."""
    return isinstance(command, ClientCommand) and not isinstance(command, Typing)


_UNAVAILABLE = encode_refusal(
    Refused(Code.UNAVAILABLE, "The service can't take this now; nothing was accepted.", retry_after_ms=1_000)
)
_TIMEOUT = encode_refusal(Refused(Code.TIMEOUT, "No answer in time: the outcome is unknown."))
_MESSAGE_TIMEOUT = encode_refusal(
    Refused(Code.TIMEOUT, "No answer in time: the outcome is unknown. Retry with the same client_message_id.")
)
