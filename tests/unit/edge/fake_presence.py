"""A broker and presence workers, for the registry that reports to them."""

import asyncio
from types import SimpleNamespace
from typing import Any

from contracts.acks import LeaseRenewed, Nothing, SessionOpened
from contracts.codec import decode_bundle, encode_ok, encode_refusal
from contracts.errors import BrokerUnavailable, internal
from contracts.frames import Reply
from contracts.models import User
from contracts.reports import AnyReport, LeaseRenew, SessionClose, SessionOpen, SessionsDrop
from edge.relay import Relay


class FakePresence:
    """A broker, and presence workers with a session directory in which the highest (epoch, version) wins."""

    def __init__(self) -> None:
        self.link = SimpleNamespace(channel=object(), not_ready_reason=None)
        self.relay = Relay(self, reply_timeout=10, can_receive_replies=lambda: True)  # type: ignore[arg-type]
        #: Names of reports that the broker refuses, and the number of reports that it refused.
        self.refused_names: set[str] = set()
        self.refused = 0
        #: Users whose reports are handled, and whose replies wait for `answer`.
        self.silent: set[str] = set()
        #: Users whose registration fails.
        self.failing: set[str] = set()
        #: The highest epoch that the directory has; lower ones do not count.
        self.newest_epoch = 0
        self.reports: list[AnyReport] = []
        self._sessions: dict[str, SessionOpen | SessionClose] = {}
        self._waiting: list[Reply] = []

    async def publish(
        self, exchange: str, key: str, body: bytes, *, persistent: bool = True, amqp_headers: Any = None
    ) -> None:
        """Handle a bundle of reports, unless the broker refuses it."""
        reports: list[Any] = decode_bundle(body)
        if key in self.refused_names:
            self.refused += len(reports)
            raise BrokerUnavailable("The queue is full.")
        for report in reports:
            self.reports.append(report)
            reply = Reply(request=report.request, ack=self._handle(report))
            if getattr(report, "user_id", None) in self.silent:
                self._waiting.append(reply)
            elif report.request:
                asyncio.get_running_loop().call_soon(self.relay.resolve, reply)

    def _handle(self, report: AnyReport) -> str:
        if isinstance(report, LeaseRenew):
            self.newest_epoch = max(self.newest_epoch, report.epoch)
            return encode_ok(LeaseRenewed(known=self.newest_epoch == report.epoch, epoch=self.newest_epoch))
        if isinstance(report, SessionsDrop):
            self._sessions = {user: last for user, last in self._sessions.items() if last.epoch > report.epoch}
            return encode_ok(Nothing())
        if report.user_id in self.failing:
            return encode_refusal(internal("test"))
        last = self._sessions.get(report.user_id)
        if report.epoch >= self.newest_epoch and (last is None or _order(report) > _order(last)):
            self._sessions[report.user_id] = report
        if isinstance(report, SessionClose):
            return encode_ok(Nothing())
        return encode_ok(SessionOpened(user=User(id=report.user_id, name=report.user_name, picture=report.picture)))

    def answer(self) -> None:
        """Send the replies that wait."""
        waiting, self._waiting = self._waiting, []
        for reply in waiting:
            self.relay.resolve(reply)

    @property
    def open_users(self) -> set[str]:
        """Users whom the directory shows as connected to the edge."""
        return {user_id for user_id, last in self._sessions.items() if isinstance(last, SessionOpen)}

    def reported(self, kind: type[AnyReport]) -> list[AnyReport]:
        """The reports of a kind that were accepted."""
        return [report for report in self.reports if isinstance(report, kind)]


def _order(report: SessionOpen | SessionClose) -> tuple[int, int]:
    return report.epoch, report.version
