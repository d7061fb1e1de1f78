"""Messages of the store: reading all of some conversations, whatever their number."""

from infra.store.client import Store
from infra.store.messages import Messages
from tests.support.handlers import conversation
from tests.support.sample_commands import send
from workers.persistence import Persistence

#: More than MongoDB puts into the first batch of a cursor, which is 101 documents.
COUNT = 250


async def test_a_stream_has_every_message_of_its_conversations_once(either_store: Store) -> None:
    # Given three conversations with messages
    chats = [await conversation(either_store, "ada", other) for other in ("bob", "eve", "kim")]
    await Persistence(either_store)([send("ada", chat, f"m{n}") for n in range(COUNT) for chat in chats])

    # When two of them are streamed
    streamed = [message async for message in Messages(either_store).stream(chats[:2])]

    # Then all messages of these two come, each once
    found = sorted((message.conversation_id, message.seq) for message in streamed)
    assert found == sorted((chat, seq) for chat in chats[:2] for seq in range(1, COUNT + 1))
