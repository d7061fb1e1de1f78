"""`topology check`: what it says of a broker, by what the broker's management API says of itself."""

from collections.abc import Callable
from typing import Any

import pytest

from contracts.topology import EXCHANGES, PERSISTENCE, QUEUES
from tests.support.management_api import management_api
from tests.support.operator_commands import operate

Answers = dict[str, Any]


def healthy() -> Answers:
    """The answers of a broker of three nodes that is as Warren expects it."""
    nodes = ["a", "b", "c"]

    def queue(each: Any) -> dict[str, Any]:
        members = {"members": nodes, "online": nodes} if each.durable else {}
        return {"name": each.name, "durable": each.durable, "arguments": each.arguments, **members}

    exchange = {"type": "direct", "durable": True, "auto_delete": False, "internal": False, "arguments": {}}
    return {
        "/api/overview": {"rabbitmq_version": "4.0.5"},
        "/api/nodes": [
            {"name": name, "running": True, "mem_alarm": False, "disk_free_alarm": False, "partitions": []}
            for name in nodes
        ],
        "/api/exchanges/chat": [{"name": each.name, **exchange} for each in EXCHANGES],
        "/api/queues/chat": [queue(each) for each in QUEUES],
        "/api/bindings/chat": [
            {"source": source, "routing_key": key, "destination": each.name}
            for each in QUEUES
            for source, key in each.bindings
        ],
        "/api/policies/chat": [],
        "/api/feature-flags": [{"name": "quorum_queue", "stability": "required", "state": "enabled"}],
    }


def said(answers: Answers) -> tuple[int, list[str]]:
    """The exit code of a check against such a broker, and its sentences."""
    with management_api(answers) as url:
        env = {"WARREN_AMQP_URL": "amqp://guest:guest@127.0.0.1:1/chat", "WARREN_MANAGEMENT_URL": url}
        checked = operate("topology", "check", env=env)
    return checked.exit_code, checked.output.splitlines()


def queue(answers: Answers, name: str = PERSISTENCE.name) -> dict[str, Any]:
    """What is said of one queue."""
    found: dict[str, Any] = next(each for each in answers["/api/queues/chat"] if each["name"] == name)
    return found


def test_nothing_is_said_of_a_broker_that_is_as_it_should_be() -> None:
    assert said(healthy()) == (0, ["The broker is as Warren expects it."])


@pytest.mark.parametrize("version", ["3.10.8", "3.13.7", "4.3.1"])
def test_every_supported_version_is_fine(version: str) -> None:
    answers = healthy()
    answers["/api/overview"]["rabbitmq_version"] = version
    if version < "4":
        # Only administrators may see them there.
        del answers["/api/feature-flags"]
    assert said(answers)[0] == 0


@pytest.mark.parametrize("version", ["3.9.29", "5.0.0", "4.4.0"])
def test_a_version_that_is_not_supported_is_named(version: str) -> None:
    answers = healthy()
    answers["/api/overview"]["rabbitmq_version"] = version
    assert said(answers) == (1, [f"RabbitMQ is {version}; Warren supports 3.10 to 4.3."])


def test_a_feature_flag_that_is_off_is_named_unless_it_is_khepris() -> None:
    answers = healthy()
    answers["/api/feature-flags"] += [
        {"name": "rabbitmq_4.0.0", "stability": "stable", "state": "disabled"},
        {"name": "experiment", "stability": "experimental", "state": "disabled"},
        {"name": "khepri_db", "stability": "stable", "state": "disabled"},
    ]
    assert said(answers) == (1, ["Feature flag rabbitmq_4.0.0 is disabled; the next upgrade may need it."])


def test_nodes_that_are_short_parted_or_away_say_so() -> None:
    # Given three nodes, and something wrong with each
    answers = healthy()
    answers["/api/nodes"][0] |= {"mem_alarm": True, "partitions": ["b"]}
    answers["/api/nodes"][1] |= {"disk_free_alarm": True}
    answers["/api/nodes"][2] = {"name": "c", "running": False}

    # Then it says what, node by node
    assert said(answers) == (
        1,
        [
            "Node c is not running.",
            "Node a has an alarm: memory.",
            "Node a has an alarm: network partition from b.",
            "Node b has an alarm: disk.",
        ],
    )


def lacks_members(answers: Answers) -> None:
    queue(answers)["members"] = ["a", "b"]
    queue(answers)["online"] = ["a"]


def lacks_a_queue(answers: Answers) -> None:
    answers["/api/queues/chat"].remove(queue(answers, "typing"))


def has_other_arguments(answers: Answers) -> None:
    arguments = {**PERSISTENCE.arguments, "x-overflow": "drop-head"}
    queue(answers)["arguments"] = arguments


def is_not_durable(answers: Answers) -> None:
    queue(answers)["durable"] = False


def lacks_an_exchange(answers: Answers) -> None:
    answers["/api/exchanges/chat"] = answers["/api/exchanges/chat"][1:]


def has_another_exchange(answers: Answers) -> None:
    answers["/api/exchanges/chat"][0]["type"] = "topic"


def lacks_a_binding(answers: Answers) -> None:
    answers["/api/bindings/chat"] = [
        each for each in answers["/api/bindings/chat"] if each["routing_key"] != "send_message"
    ]


def has_a_spy(answers: Answers) -> None:
    answers["/api/bindings/chat"].append(
        {"source": "warren.facts", "routing_key": "message.stored", "destination": "spy"}
    )


def has_a_policy(answers: Answers) -> None:
    definition = {"max-length": 10, "queue-leader-locator": "balanced"}
    policy = {"name": "panic", "pattern": "^unread$", "apply-to": "queues", "priority": 1, "definition": definition}
    answers["/api/policies/chat"].append(policy)


@pytest.mark.parametrize(
    ("change", "sentences"),
    [
        (
            lacks_members,
            [
                "Queue persistence has 2 of 3 members: use `rabbitmq-queues grow` on the nodes without one.",
                "Queue persistence has members that are not running: b.",
            ],
        ),
        (lacks_a_queue, ["Queue typing is missing."]),
        (has_other_arguments, ["Queue persistence has x-overflow 'drop-head' instead of 'reject-publish'."]),
        (is_not_durable, ["Queue persistence is not durable."]),
        (lacks_an_exchange, [f"Exchange {EXCHANGES[0].name} is missing."]),
        (has_another_exchange, [f"Exchange {EXCHANGES[0].name} has type 'topic' instead of 'direct'."]),
        (lacks_a_binding, ["Queue persistence is not bound to warren.commands with send_message."]),
        (has_a_spy, ["spy is bound to warren.facts with message.stored, which Warren did not declare."]),
        (has_a_policy, ["Policy panic gives unread max-length 10 instead of 1000000."]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_difference_is_a_sentence(change: Callable[[Answers], None], sentences: list[str]) -> None:
    answers = healthy()
    change(answers)
    assert said(answers) == (1, sentences)


def test_a_cluster_of_one_node_needs_no_three_members() -> None:
    answers = healthy()
    answers["/api/nodes"] = answers["/api/nodes"][:1]
    for each in answers["/api/queues/chat"]:
        if "members" in each:
            each |= {"members": ["a"], "online": ["a"]}
    assert said(answers)[0] == 0


def test_an_edges_own_queue_and_other_peoples_bindings_are_none_of_ours() -> None:
    answers = healthy()
    answers["/api/bindings/chat"] += [
        {"source": "warren.frames", "routing_key": "e1", "destination": "edge.e1.7"},
        {"source": "", "routing_key": "theirs", "destination": "theirs"},
    ]
    assert said(answers)[0] == 0


def test_a_broker_that_knows_no_such_virtual_host_is_one_sentence() -> None:
    code, (sentence,) = said({"/api/overview": {"rabbitmq_version": "4.0.5"}})
    assert code == 1
    assert "does not answer" in sentence
