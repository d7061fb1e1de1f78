"""Alerts and the dashboard: each alert fires when it should and leads to its runbook entry, and no name is made up."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import yaml

import infra.metrics  # noqa: F401 - registers every metric of ours
from infra.deploy import dashboard, panels

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "infra" / "deploy" / "prometheus" / "alerts.yml"
ALERT_TESTS = sorted(Path(__file__).parent.glob("alerts*_test.yml"))
RUNBOOK = ROOT / "docs" / "runbook.md"
SOURCES = ROOT / "infra" / "deploy" / "grafana" / "provisioning" / "datasources" / "prometheus.yml"

#: Series that others make, with their labels. RabbitMQ's are those that 3.10 and 4 print at /metrics/per-object.
OTHERS = {
    "up": set[str](),  # Prometheus: whether the last scrape worked
    "ALERTS": {"alertname", "alertstate", "severity"},  # Prometheus: what fires
    "rabbitmq_queue_messages": {"queue", "vhost"},
    "rabbitmq_queue_messages_bytes": {"queue", "vhost"},
    "rabbitmq_queue_messages_ready": {"queue", "vhost"},
    "rabbitmq_queue_messages_unacked": {"queue", "vhost"},
    "rabbitmq_queue_consumers": {"queue", "vhost"},
    "rabbitmq_process_resident_memory_bytes": set[str](),
    "rabbitmq_resident_memory_limit_bytes": set[str](),
}
#: What Prometheus adds to whatever it scrapes.
TARGET = {"job", "instance"}
WORDS = {"by", "on", "and", "or", "unless", "ignoring", "group_left", "group_right", "offset", "bool", "inf", "nan"}

Rule = dict[str, Any]

rules: list[Rule] = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def ours() -> dict[str, set[str]]:
    """Every series of a process of Warren, the client library's own included, with its labels."""
    found: dict[str, set[str]] = {}
    for collector in list(prometheus_client.REGISTRY._collector_to_names):
        labels = set(getattr(collector, "_labelnames", ()))
        for name in prometheus_client.REGISTRY._collector_to_names[collector]:
            found[name] = labels | ({"le"} if name.endswith("_bucket") else set())
    return found


KNOWN = OTHERS | ours()


#: `by (…)` and `on (…)`; a name with its selector, if it has one, and a bracket if it is a function.
GROUPING = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")
NAME = re.compile(r"([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?\s*(\()?")


def named(expression: str) -> Iterator[tuple[str, set[str]]]:
    """The series in a PromQL expression, each with the labels that are asked of it."""
    plain = re.sub(r'"[^"]*"', '""', expression)
    for name, selector, call in NAME.findall(re.sub(r"\[[^]]*\]", " ", GROUPING.sub(" ", plain))):
        if not call and name not in WORDS:
            yield name, set(re.findall(r"(\w+)\s*(?:=|!)", selector))


def grouped(expression: str) -> set[str]:
    """The labels that an expression groups or joins by."""
    return {label for labels in GROUPING.findall(expression) for label in re.findall(r"\w+", labels)}


@pytest.mark.parametrize("expression", sorted({*panels.queries(), *(rule["expr"] for rule in rules)}))
def test_every_series_and_label_that_is_asked_for_exists(expression: str) -> None:
    series = list(named(expression))
    assert series, "an expression asks for something"
    assert {name for name, _ in series} <= set(KNOWN)
    for name, labels in series:
        assert labels <= KNOWN[name] | TARGET, name
    assert grouped(expression) <= TARGET.union(*(KNOWN[name] for name, _ in series))


def test_the_page_is_fresh() -> None:
    assert dashboard.FILE.read_text() == dashboard.text(), "run `make docs`"


def test_the_page_asks_the_source_that_is_provisioned() -> None:
    (source,) = yaml.safe_load(SOURCES.read_text())["datasources"]
    assert (source["type"], source["uid"]) == (dashboard.SOURCE.type_val, dashboard.SOURCE.uid)


def test_alerts_fire_when_they_should() -> None:
    done = subprocess.run(["promtool", "test", "rules", *ALERT_TESTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_fired_by_a_test() -> None:
    fired = {
        alert["alertname"]
        for file in ALERT_TESTS
        for test in yaml.safe_load(file.read_text())["tests"]
        for alert in test["alert_rule_test"]
        if alert["exp_alerts"]
    }
    assert fired == {rule["alert"] for rule in rules}


def anchors(file: Path) -> set[str]:
    """What a heading is linked by, as forges make it: lower case, no punctuation, dashes for spaces."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("rule", rules, ids=lambda rule: rule["alert"])
def test_each_alert_says_how_urgent_it_is_and_leads_to_its_runbook_entry(rule: Rule) -> None:
    assert rule["alert"].startswith("Warren")
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"].endswith(".")
    file, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert ROOT / file == RUNBOOK
    assert anchor in anchors(RUNBOOK)
