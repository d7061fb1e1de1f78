"""The interface between the load generator and the system that it measures."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from infra.bench.histories import Stored
from infra.bench.load.light_client import Conversation


@dataclass(frozen=True)
class SystemUnderTest:
    """A running system that speaks Warren's client protocol. The generator knows nothing else about it."""

    name: str
    #: `http://host:port` of each process that clients connect to.
    edge_urls: tuple[str, ...]
    #: Makes the token of a user.
    make_token: Callable[[str], str]
    #: Process ids by the name that the table gives them; they may change during a run. Empty for another machine's.
    pids: Callable[[], Mapping[str, int]]
    #: Reads what the store holds of some conversations. None for a system that stores nothing: then acks stand for it.
    read_store: Callable[[Sequence[Conversation]], Awaitable[Stored]] | None
    #: Whether clients may have to reconnect for reasons outside the run. Then pushes are judged only in a run in which
    #: none had to.
    may_reconnect: bool = False
