"""`python -m infra topology check`: compares a live broker with what Warren expects. Each difference is a sentence."""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from contracts.topology import EXCHANGES, QUEUES
from infra.broker.management import fetch
from infra.cli.console import run
from infra.deploy.definitions import EDGE_QUEUES, policies
from infra.settings import Settings, load

Json = Any

#: The oldest and the newest RabbitMQ that Warren supports.
OLDEST, NEWEST = (3, 10), (4, 3)
#: Members that a quorum queue should have where there are as many nodes.
MEMBERS = 3
#: Keys that a policy may add without an effect on Warren: they decide on which nodes queues are.
PLACEMENT_KEYS = frozenset({"queue-leader-locator", "target-group-size", "initial-cluster-size"})

PATHS = (
    "/api/overview",
    "/api/nodes",
    "/api/exchanges/{vhost}",
    "/api/queues/{vhost}",
    "/api/bindings/{vhost}",
    "/api/policies/{vhost}",
)


def command() -> None:
    """Compare a live broker with what Warren expects and print the differences. Exits with 1 when there are any.

    Needs RabbitMQ's management API.
    """
    found = run(differences(load(Settings)))
    sys.stdout.write("".join(f"{sentence}\n" for sentence in found) or "The broker is as Warren expects it.\n")
    sys.exit(1 if found else 0)


async def differences(settings: Settings) -> list[str]:
    """Every difference as a sentence. Raises BrokerUnavailable.

    Needs a user with the tag `monitoring`.
    """
    overview, nodes, exchanges, queues, bindings, found = await fetch(settings, *PATHS)
    # RabbitMQ 3 shows feature flags to administrators only.
    flags = (await fetch(settings, "/api/feature-flags"))[0] if _number(overview["rabbitmq_version"]) >= (4, 0) else ()
    running = [node for node in nodes if node["running"]]
    return [
        *_version(overview["rabbitmq_version"]),
        *_flags(flags),
        *(f"Node {node['name']} is not running." for node in nodes if not node["running"]),
        *(f"Node {node['name']} has an alarm: {alarm}." for node in running for alarm in _alarms(node)),
        *_exchanges({exchange["name"]: exchange for exchange in exchanges}),
        *_queues({queue["name"]: queue for queue in queues}, len(running)),
        *_bindings({(each["source"], each["routing_key"], each["destination"]) for each in bindings}),
        *_policies(found, [queue["name"] for queue in queues]),
    ]


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _version(version: str) -> Iterator[str]:
    if not OLDEST <= _number(version) <= NEWEST:
        supported = " to ".join(".".join(map(str, each)) for each in (OLDEST, NEWEST))
        yield f"RabbitMQ is {version}; Warren supports {supported}."


def _flags(flags: Iterable[Json]) -> Iterator[str]:
    for flag in flags:
        if flag["stability"] in ("stable", "required") and flag["state"] != "enabled" and flag["name"] != "khepri_db":
            yield f"Feature flag {flag['name']} is {flag['state']}; the next upgrade may need it."


def _alarms(node: Json) -> Iterator[str]:
    if node.get("mem_alarm"):
        yield "memory"
    if node.get("disk_free_alarm"):
        yield "disk"
    if node.get("partitions"):
        yield f"network partition from {', '.join(node['partitions'])}"


def _exchanges(found: Mapping[str, Json]) -> Iterator[str]:
    for exchange in EXCHANGES:
        if (live := found.get(exchange.name)) is None:
            yield f"Exchange {exchange.name} is missing."
            continue
        expected = {"type": "direct", "durable": True, "auto_delete": False, "internal": False, "arguments": {}}
        for key, value in expected.items():
            if live[key] != value:
                yield f"Exchange {exchange.name} has {key} {live[key]!r} instead of {value!r}."


def _queues(found: Mapping[str, Json], nodes: int) -> Iterator[str]:
    for queue in QUEUES:
        if (live := found.get(queue.name)) is None:
            yield f"Queue {queue.name} is missing."
            continue
        if live["durable"] != queue.durable:
            yield f"Queue {queue.name} is {'' if live['durable'] else 'not '}durable."
        # RabbitMQ may add the default queue type of the virtual host.
        has, needs = ({"x-queue-type": "classic", **each} for each in (live["arguments"], queue.arguments))
        for name in sorted({*has, *needs}):
            if has.get(name) != needs.get(name):
                yield f"Queue {queue.name} has {name} {has.get(name)!r} instead of {needs.get(name)!r}."
        members, online = live.get("members"), live.get("online", [])
        if members is not None and len(members) < min(MEMBERS, nodes):
            yield (
                f"Queue {queue.name} has {len(members)} of {min(MEMBERS, nodes)} members: "
                "use `rabbitmq-queues grow` on the nodes without one."
            )
        if members is not None and (away := set(members) - set(online)):
            yield f"Queue {queue.name} has members that are not running: {', '.join(sorted(away))}."


def _bindings(found: set[tuple[str, str, str]]) -> Iterator[str]:
    expected = {(exchange, key, queue.name) for queue in QUEUES for exchange, key in queue.bindings}
    for exchange, key, queue in sorted(expected - found):
        yield f"Queue {queue} is not bound to {exchange} with {key}."
    ours = {exchange.name for exchange in EXCHANGES}
    for exchange, key, queue in sorted(found - expected):
        # Running edges bind their own queues.
        if exchange in ours and not re.fullmatch(EDGE_QUEUES, queue):
            yield f"{queue} is bound to {exchange} with {key}, which Warren did not declare."


def _policies(found: Iterable[Json], names: Iterable[str]) -> Iterator[str]:
    """Limits that a policy changes. A broker without policies is correct: queues have their limits as arguments."""
    found_differences = set()
    for name in sorted({*(queue.name for queue in QUEUES), *names}):
        expected = next((policy.definition for policy in policies() if re.search(policy.pattern, name)), None)
        applied = max((each for each in found if _applies(each, name)), key=lambda each: each["priority"], default=None)
        if expected is None or applied is None:
            continue
        for key, value in applied["definition"].items():
            if key not in PLACEMENT_KEYS and expected.get(key) != value:
                found_differences.add(
                    f"Policy {applied['name']} gives {name} {key} {value!r} instead of {expected.get(key)!r}."
                )
    yield from sorted(found_differences)


def _applies(policy: Json, queue: str) -> bool:
    return policy["apply-to"] != "exchanges" and re.search(policy["pattern"], queue) is not None
