"""What a system under load must offer, whatever it is."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from infra.bench.history import Store


@dataclass(frozen=True)
class SystemUnderTest:
    """A running system that speaks Warren's client protocol. The generator knows nothing else about it."""

    name: str
    #: `http://127.0.0.1:port` of each process that clients connect to.
    edge_urls: tuple[str, ...]
    #: Makes the token of a user.
    make_token: Callable[[str], str]
    #: Process ids by the name that the report gives them; they may change during a run.
    pids: Callable[[], Mapping[str, int]]
    #: Reads what the store holds of some conversations; called in a thread. None for a system that stores nothing: then
    #: acks are taken for it.
    read_store: Callable[[Collection[str]], Store] | None
