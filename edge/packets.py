"""Writes Socket.IO packets as Engine.IO text. No other module of the edge spells a packet.

Engine.IO's `4` is a message; the digit after it is Socket.IO's packet type. All packets are of the default namespace
and carry no binary attachments. Source: the Socket.IO protocol, version 5, and the Engine.IO protocol, version 4
(https://socket.io/docs/v4/socket-io-protocol/). Payloads and acks are finished JSON text and are not parsed here.
"""

import json

from contracts.errors import Error

#: Tells a client that the server closes its session. A client library does not reconnect after it.
DISCONNECT = "41"


def event_packet(name: str, payload: str) -> str:
    """An event with one argument; `payload` is its JSON text."""
    return f'42["{name}",{payload}]'


def ack_packet(ack_id: int, ack: str) -> str:
    """The ack of the event that the client numbered `ack_id`; `ack` is the JSON text of its one argument."""
    return f"43{ack_id}[{ack}]"


def connect_error_packet(error: Error) -> str:
    """The refusal of a connection, which client libraries report as `connect_error`."""
    return "44" + json.dumps({"message": error.code.value, "data": connect_error_data(error)})


def connect_error_data(error: Error) -> dict[str, object]:
    """The `data` of a `connect_error`."""
    return {"code": error.code.value, "message": error.message, "retryable": error.retryable}
