"""Search: finds users. Each search has a time limit of its own, and fails alone; so has each batch, in which users take
turns."""

import asyncio
import time
from collections.abc import Sequence

from contracts.acks import UsersFound
from contracts.codec import Item
from contracts.commands import FindUsers
from contracts.errors import Code, Refused, StoreUnavailable
from infra.store.client import Store
from infra.store.users import Users
from workers.effects import Effects
from workers.stale_reads import without_stale
from workers.turns import in_turns
from workers.views import found_user_view

#: Searches that run at the same time: they read many documents, and others need the store as well.
AT_ONCE = 4
#: Milliseconds that the store may spend on one search.
SEARCH_LIMIT_MS = 1_000
#: Seconds after which no further search of a batch starts. A batch is answered when it is finished, so without this
#: limit the searches that one user may make at once would keep everybody else's waiting for longer than clients do.
BATCH_LIMIT = 3.0


class Search:
    """The handler of the search queue."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._users = Users(store)
        self._running = asyncio.Semaphore(AT_ONCE)

    async def __call__(self, items: Sequence[Item]) -> Effects:
        effects = Effects()
        commands = [item for item in without_stale(items) if isinstance(item, FindUsers)]
        deadline = time.monotonic() + BATCH_LIMIT
        await asyncio.gather(*(self._search(command, deadline, effects) for command in in_turns(commands)))
        return effects

    async def _search(self, command: FindUsers, deadline: float, effects: Effects) -> None:
        payload = command.payload
        async with self._running:
            try:
                if time.monotonic() > deadline:
                    raise StoreUnavailable("Too many searches wait.")
                async with self._store.one_term():
                    found = await self._users.search(
                        command.user_id, payload.query, payload.online_only, payload.limit, limit_ms=SEARCH_LIMIT_MS
                    )
            except StoreUnavailable:
                refusal = Refused(Code.UNAVAILABLE, "The search takes too long now.", retry_after_ms=2_000)
                effects.refuse(command, refusal)
                return
        effects.reply(command, UsersFound.model_construct(users=[found_user_view(document) for document in found]))
