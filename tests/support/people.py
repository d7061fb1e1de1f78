"""The cast of a test: users with unique ids, their sockets on both edges, and how to know that nothing else comes."""

import asyncio
import secrets
from typing import Any

from infra.local.stack import Stack
from infra.local.supervisor import Process
from tests.support.socketio_client import Client, Json, seen_codes


class People:
    """Makes users that no other test knows, and connects them to the edges of a stack."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.clients: list[Client] = []
        self._sent = 0

    # --- Who ----------------------------------------------------------------------------------------------

    def name(self, label: str = "user") -> str:
        """A user id that nobody has had before."""
        return f"{label}-{secrets.token_hex(5)}"

    def client_message_id(self) -> str:
        """A client message id that this test has not used yet."""
        self._sent += 1
        return f"m{self._sent}"

    # --- Sockets ------------------------------------------------------------------------------------------

    def socket(self, auth: Json, edge: int | Process = 0, user_id: str = "") -> Client:
        """A client that is not connected yet, with any auth."""
        client = Client(edge if isinstance(edge, Process) else self.stack.edges[edge], auth, user_id)
        self.clients.append(client)
        return client

    async def connect(self, user_id: str, edge: int | Process = 0, **claims: Any) -> Client:
        """Connect a user's socket to an edge and wait for `session_ready`."""
        token = self.stack.token(user_id, **claims)
        return await self.socket({"token": token}, edge, user_id).connect()

    async def arrive(self, *labels: str, edges: tuple[int, ...] = (0, 1)) -> list[Client]:
        """Connect one new user per label, on alternating edges."""
        places = [edges[index % len(edges)] for index in range(len(labels))]
        arriving = [self.connect(self.name(label), edge) for label, edge in zip(labels, places, strict=True)]
        return list(await asyncio.gather(*arriving))

    async def refusal(self, auth: Json, edge: int | Process = 0) -> str:
        """The code of the `connect_error` that a connection with this auth gets."""
        data = await self.socket(auth, edge).refused()
        code: str = data["code"]
        return code

    # --- Talking ------------------------------------------------------------------------------------------

    async def start(self, by: Client, *others: Client | str, title: str | None = None) -> str:
        """Start a conversation; return its id."""
        ids = [other if isinstance(other, str) else other.user_id for other in others]
        payload = {"participant_ids": ids} | ({"title": title} if title else {})
        conversation_id: str = (await by.call("start_conversation", payload))["conversation"]["id"]
        return conversation_id

    async def say(self, by: Client, conversation_id: str, body: str = "hello") -> Json:
        """Send a message, no faster than the edge allows; return it as acked."""
        id = self.client_message_id()
        message = {"conversation_id": conversation_id, "client_message_id": id, "body": body}
        while True:
            ack = await by.ack("send_message", message)
            if ack["ok"]:
                return ack["data"]["message"]
            assert ack["error"]["code"] == "rate_limited", f"send_message: {ack['error']}"
            await asyncio.sleep(ack["error"]["retry_after_ms"] / 1000)

    async def chat(self, *clients: Client) -> str:
        """A conversation of these users in which the first said hello and all were told; marks are set after that."""
        first, *others = clients
        conversation_id = await self.start(first, *others)
        await self.say(first, conversation_id)
        await self.settle(*clients)
        for client in clients:
            client.mark()
        return conversation_id

    async def settle(self, *clients: Client) -> None:
        """Wait until every push that is under way to these sockets has arrived.

        A newcomer arrives on their edges, writes to all of them and types. Workers handle and send in order, and each
        of those that push (presence, persistence, unread, typing) sends something here: whoever has that, has all
        that was sent before. What presence finds out by itself, that somebody is gone, is not covered.
        """
        edges = {client.edge for client in clients}
        newcomer, *_ = [await self.connect(self.name("sentinel"), edge) for edge in edges]
        users = sorted({client.user_id for client in clients})
        conversation_id = await self.start(newcomer, *users)
        await self.say(newcomer, conversation_id)
        await newcomer.call("typing", conversation_id=conversation_id, typing=True)
        for client in clients:
            for name in ("new_message", "unread_updated", "typing"):
                await client.push(name, conversation_id)

    def saw(self, code: str) -> None:
        """Note that another kind of client was answered with this code."""
        seen_codes.add(code)

    async def leave(self) -> None:
        """Close every socket."""
        await asyncio.gather(*(client.close() for client in self.clients))

    @property
    def violations(self) -> list[str]:
        """What any socket was sent that the protocol does not have."""
        return [f"{client.user_id}: {violation}" for client in self.clients for violation in client.violations]
