"""What a user's events may cost: people in new conversations, searches, and items read. Tells clients every bound.

The rate of events alone does not bound the work: a start of 500 people is not a typing notice.
"""

from collections import OrderedDict
from enum import Enum

from contracts.commands import FindUsersPayload, StartConversationPayload, items_read
from contracts.pushes import Limits
from contracts.values import (
    MAX_BODY_CHARACTERS,
    MAX_LIMIT,
    MAX_PARTICIPANTS,
    MAX_QUERY,
    MAX_SEEN_PARTICIPANTS,
    MAX_TITLE,
    MAX_USER_IDS,
    SHOWN_PARTICIPANTS,
    Value,
)
from edge.limits import TokenBucket
from infra.settings import EdgeSettings

#: Users whose budgets are kept; the least recently used go first. A budget outlives its user's sockets, so that a
#: reconnect does not fill it.
MAX_USERS = 20_000


class Work(Enum):
    """A kind of work with a budget of its own."""

    START = "start"
    SEARCH = "search"
    READ = "read"


def cost_of(payload: Value) -> tuple[Work, int] | None:
    """What an event costs, in the unit of its budget; None for an event that only counts as one."""
    match payload:
        case StartConversationPayload():
            return Work.START, len(set(payload.participant_ids))
        case FindUsersPayload():
            return Work.SEARCH, 1
        case _:
            items = items_read(payload)
            return (Work.READ, items) if items else None


class CostLimits:
    """The budgets of the users of one edge. A budget may be spent at once, and fills evenly over its period."""

    def __init__(self, settings: EdgeSettings) -> None:
        #: Units and seconds of each budget; 0 units mean no limit.
        self._budgets = {
            Work.START: (settings.start_people_per_hour, 3_600),
            Work.SEARCH: (settings.searches_per_minute, 60),
            Work.READ: (settings.read_items_per_minute, 60),
        }
        self._buckets: OrderedDict[str, dict[Work, TokenBucket]] = OrderedDict()

    def take(self, user_id: str, payload: Value) -> float:
        """Spend what an event costs. Returns 0, or the seconds until the user can afford it; then nothing is spent."""
        cost = cost_of(payload)
        if cost is None:
            return 0.0
        work, units = cost
        budget, seconds = self._budgets[work]
        buckets = self._buckets.setdefault(user_id, {})
        self._buckets.move_to_end(user_id)
        if len(self._buckets) > MAX_USERS:
            self._buckets.popitem(last=False)
        if work not in buckets:
            buckets[work] = TokenBucket(budget / seconds, budget)
        # An event that costs more than the whole budget takes all of it: otherwise it could never pass.
        return buckets[work].take(min(units, budget))


def limits_of(settings: EdgeSettings) -> Limits:
    """The bounds that a client of this edge meets, for `session_ready`."""
    return Limits(
        max_body_characters=MAX_BODY_CHARACTERS,
        max_title_characters=MAX_TITLE,
        max_query_characters=MAX_QUERY,
        max_event_bytes=settings.max_event_bytes,
        max_participants=MAX_PARTICIPANTS,
        max_shown_participants=SHOWN_PARTICIPANTS,
        max_seen_participants=MAX_SEEN_PARTICIPANTS,
        max_list_items=MAX_LIMIT,
        max_user_ids=MAX_USER_IDS,
        max_in_flight=settings.max_in_flight,
        max_connections_per_user=settings.max_connections_per_user,
        events_per_second=int(settings.rate_limit),
        burst=settings.rate_burst,
        frames_per_second=int(settings.frame_rate),
        frame_burst=settings.frame_burst,
        bytes_per_second=int(settings.byte_rate),
        byte_burst=settings.byte_burst,
        start_people_per_hour=settings.start_people_per_hour,
        searches_per_minute=settings.searches_per_minute,
        read_items_per_minute=settings.read_items_per_minute,
    )
