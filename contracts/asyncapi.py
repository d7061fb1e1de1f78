"""The AsyncAPI 3.0 document of both sides: Socket.IO towards clients, AMQP between edges and workers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from contracts import topology
from contracts.acks import ACKS
from contracts.codec import AnyCommand, FrameEnvelope
from contracts.commands import CLIENT_EVENTS
from contracts.facts import AnyFact
from contracts.pushes import PUSHES
from contracts.schema import Schema, ack_of, client_types, definitions, envelopes, written
from contracts.values import Value

VERSION = "3.0.0"
SCHEMAS = "#/components/schemas/"
MESSAGES = "#/components/messages/"

#: Every command and fact by name.
ITEMS: dict[str, type[Value]] = {
    str(item.model_fields["name"].default): item for item in (*get_args(AnyCommand), AnyFact)
}
#: What stands for an edge in names.
_EDGE = {
    "edge_id": {"description": "The edge: one process, named anew at each start."},
    "epoch": {"description": "When the edge's connection was set up, in milliseconds; each has a queue of its own."},
}


def document() -> dict[str, Any]:
    """The whole document."""
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "Warren",
            "version": "1",
            "description": (
                "Written by `python -m contracts` (make docs) from contracts/; not to be edited. "
                "The prose is in docs/protocol.md (clients) and docs/design.md (broker)."
            ),
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": {**_event_channels(), **_push_channels(), **_exchange_channels(), **_queue_channels()},
        "operations": {
            **_event_operations(),
            **_push_operations(),
            **_publish_operations(),
            **_consume_operations(),
        },
        "components": {"messages": _messages(), "schemas": _schemas()},
    }


def _servers() -> dict[str, Any]:
    return {
        "edge": {
            "host": "127.0.0.1:8001",
            "pathname": "/socket.io",
            "protocol": "ws",
            "protocolVersion": "13",
            "description": (
                "Any edge: Socket.IO v4 (Engine.IO 4) over WebSocket, namespace `/`. "
                "A channel's address is the name of the Socket.IO event."
            ),
            "security": [
                {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "As Socket.IO's `auth: {token}`, never in the URL or in a header.",
                }
            ],
        },
        "broker": {
            "host": "127.0.0.1:5672",
            "protocol": "amqp",
            "protocolVersion": "0.9.1",
            "description": "RabbitMQ 3.10 or later. A channel's address is a routing key or the name of a queue.",
        },
    }


# --- Socket side ------------------------------------------------------------------------------------------


def _event_channels() -> dict[str, Any]:
    return {
        f"event.{event}": _channel(event, "edge", messages=[f"event.{event}", f"ack.{event}"])
        for event in CLIENT_EVENTS
    }


def _push_channels() -> dict[str, Any]:
    return {f"push.{event}": _channel(event, "edge", messages=[f"push.{event}"]) for event in PUSHES}


def _event_operations() -> dict[str, Any]:
    return {
        f"receive.{event}": {
            **_operation("receive", f"event.{event}", [f"event.{event}"]),
            "reply": {
                "channel": {"$ref": f"#/channels/event.{event}"},
                "messages": [_message_ref(f"event.{event}", f"ack.{event}")],
            },
        }
        for event in CLIENT_EVENTS
    }


def _push_operations() -> dict[str, Any]:
    return {f"push.{event}": _operation("send", f"push.{event}", [f"push.{event}"]) for event in PUSHES}


# --- Broker side ------------------------------------------------------------------------------------------


def _exchange_channels() -> dict[str, Any]:
    """One channel for each routing key of `warren.commands` and `warren.facts`, and one for all edges' frames."""
    channels = {}
    for queue in topology.QUEUES:
        for exchange, key in queue.bindings:
            if exchange != topology.DEAD:
                name = _key_channel(exchange, key)
                channels[name] = _routed(key, exchange, [f"bundle.{key}"])
    channels["frames"] = {
        **_routed("{edge_id}", topology.FRAMES, ["frame"]),
        "parameters": {"edge_id": _EDGE["edge_id"]},
    }
    return channels


def _queue_channels() -> dict[str, Any]:
    channels = {f"queue.{queue.name}": _queue_channel(queue, _carried(queue)) for queue in topology.QUEUES}
    edge = topology.edge_queue("{edge_id}", 0)
    pattern = topology.Queue(
        edge.name.removesuffix("0") + "{epoch}", edge.bindings, edge.arguments, edge.durable, edge.exclusive
    )
    return {**channels, "queue.edge": {**_queue_channel(pattern, ["frame"]), "parameters": _EDGE}}


def _publish_operations() -> dict[str, Any]:
    operations = {}
    for queue in topology.QUEUES:
        for exchange, key in queue.bindings:
            if exchange != topology.DEAD:
                # Typing notices are worth nothing after a restart of the broker.
                durably = queue in topology.WORK_QUEUES
                operations[f"publish.{key}"] = _publish(_key_channel(exchange, key), [f"bundle.{key}"], durably)
    operations["publish.frame"] = _publish("frames", ["frame"], durably=False)
    return operations


def _consume_operations() -> dict[str, Any]:
    operations = {}
    for queue in (*topology.WORK_QUEUES, topology.TYPING):
        operations[f"consume.{queue.name}"] = {
            **_operation("receive", f"queue.{queue.name}", _carried(queue)),
            "bindings": {"amqp": {"ack": True, "bindingVersion": "0.3.0"}},
        }
    operations["consume.edge"] = {
        **_operation("receive", "queue.edge", ["frame"]),
        "bindings": {"amqp": {"ack": False, "bindingVersion": "0.3.0"}},
    }
    return operations


def _carried(queue: topology.Queue) -> list[str]:
    """The messages that a queue may hold; dead letters are those of the queue they fell out of."""
    for exchange, key in queue.bindings:
        if exchange == topology.DEAD:
            return _carried(next(source for source in topology.WORK_QUEUES if source.name == key))
    return [f"bundle.{key}" for _, key in queue.bindings]


def _key_channel(exchange: str, key: str) -> str:
    return f"{exchange.removeprefix('warren.')}.{key}"


def _routed(key: str, exchange: str, messages: Sequence[str]) -> dict[str, Any]:
    binding = {
        "is": "routingKey",
        "exchange": {"name": exchange, "type": "direct", "durable": True, "autoDelete": False},
        "bindingVersion": "0.3.0",
    }
    return {**_channel(key, "broker", messages), "bindings": {"amqp": binding}}


def _queue_channel(queue: topology.Queue, messages: Sequence[str]) -> dict[str, Any]:
    binding = {
        "is": "queue",
        "queue": {
            "name": queue.name,
            "durable": queue.durable,
            "exclusive": queue.exclusive,
            "autoDelete": False,
        },
        "bindingVersion": "0.3.0",
    }
    return {
        **_channel(queue.name, "broker", messages),
        "bindings": {"amqp": binding},
        "x-arguments": queue.arguments,
        "x-bound-to": [{"exchange": exchange, "routingKey": key} for exchange, key in queue.bindings],
    }


def _publish(channel: str, messages: Sequence[str], durably: bool) -> dict[str, Any]:
    binding = {"mandatory": True, "deliveryMode": 2 if durably else 1, "bindingVersion": "0.3.0"}
    return {**_operation("send", channel, messages), "bindings": {"amqp": binding}}


# --- Parts ------------------------------------------------------------------------------------------------


def _channel(address: str, server: str, messages: Iterable[str]) -> dict[str, Any]:
    return {
        "address": address,
        "servers": [{"$ref": f"#/servers/{server}"}],
        "messages": {name: {"$ref": MESSAGES + name} for name in messages},
    }


def _operation(action: str, channel: str, messages: Iterable[str]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [_message_ref(channel, name) for name in messages],
    }


def _message_ref(channel: str, message: str) -> dict[str, str]:
    return {"$ref": f"#/channels/{channel}/messages/{message}"}


def _messages() -> dict[str, Any]:
    return {
        **{f"event.{event}": _message(event, _ref(payload)) for event, payload in CLIENT_EVENTS.items()},
        **{f"ack.{event}": _message(event, ack_of(data, SCHEMAS)) for event, data in ACKS.items()},
        **{f"push.{event}": _message(event, _ref(payload)) for event, payload in PUSHES.items()},
        **{f"bundle.{name}": _message(name, _bundle(item)) for name, item in ITEMS.items()},
        "frame": _message("frame", _ref(FrameEnvelope)),
    }


def _message(name: str, payload: Schema) -> dict[str, Any]:
    return {"name": name, "payload": payload}


def _bundle(item: type[Value]) -> Schema:
    """The body of an AMQP message: items of one name that travel together."""
    return {
        "type": "object",
        "properties": {"v": {"type": "integer", "const": 1}, "items": {"type": "array", "items": _ref(item)}},
        "required": ["v", "items"],
        "additionalProperties": False,
    }


def _schemas() -> Mapping[str, Schema]:
    internal = written([*ITEMS.values(), FrameEnvelope])
    return dict(sorted({**definitions(client_types() + internal, SCHEMAS), **envelopes(SCHEMAS)}.items()))


def _ref(of: type[Value]) -> Schema:
    return {"$ref": SCHEMAS + of.__name__}
