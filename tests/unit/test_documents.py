"""The documents are true to the code: examples decode, tables are complete, links lead somewhere."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer
from prometheus_client.metrics import MetricWrapperBase
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from contracts import topology
from contracts.acks import ACKS
from contracts.codec import decode_ok, decode_payload
from contracts.commands import CLIENT_EVENTS
from contracts.errors import RETRYABLE, Code, Error, Refused
from contracts.pushes import PUSHES
from contracts.values import (
    MAX_LIMIT,
    MAX_PARTICIPANTS,
    MAX_SEEN_PARTICIPANTS,
    MAX_USER_IDS,
    SHOWN_PARTICIPANTS,
    Value,
)
from edge.costs import limits_of
from infra import metrics
from infra.__main__ import app
from infra.settings import MIN_SECRET_BYTES, EdgeSettings, Settings, WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(file for pattern in ("*.md", "docs/**/*.md", "web/*.md") for file in ROOT.glob(pattern))
README = (ROOT / "README.md").read_text()
SETTINGS = (ROOT / "docs" / "settings.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
DESIGN = (ROOT / "docs" / "design.md").read_text()

PUSH_PAYLOADS: dict[str, type[Value]] = {str(event): payload for event, payload in PUSHES.items()}


def named(file: Path) -> str:
    return str(file.relative_to(ROOT))


# --- Examples of the protocol -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Example:
    """A fenced block of docs/protocol.md: ```json <kind> <event>."""

    kind: str
    event: str
    text: str


EXAMPLES = [
    Example(kind, event, text)
    for kind, event, text in re.findall(r"^```json (\w+) ?(\w*)\n(.*?)^```", PROTOCOL, flags=re.MULTILINE | re.DOTALL)
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.kind} {example.event}")
def test_every_example_decodes(example: Example) -> None:
    # Given an example
    value = orjson.loads(example.text)

    # Then it is what it says
    match example.kind:
        case "event":
            decode_payload(CLIENT_EVENTS[example.event], value)
        case "ack" if value["ok"]:
            assert decode_ok(ACKS[example.event], example.text) is not None
        case "ack":
            assert set(value) == {"ok", "error"}
            error = Error.model_validate_json(json.dumps(value["error"]))
            assert error.retryable == (error.code in RETRYABLE)
            assert error.model_fields_set == set(Error.model_fields), "a server leaves nothing out"
        case "push":
            PUSH_PAYLOADS[example.event].model_validate(value)
        case "connect_error":
            assert value == {"code": Code(value["code"]), "message": value["message"], "retryable": value["retryable"]}
            assert value["retryable"] == (Code(value["code"]) in RETRYABLE)
        case kind:
            assert kind == "auth"
            assert set(value) == {"token"}


def test_every_event_ack_and_push_has_an_example() -> None:
    shown = {(example.kind, example.event) for example in EXAMPLES}
    expected = {("event", name) for name in CLIENT_EVENTS} | {("ack", name) for name in ACKS}
    assert expected | {("push", name) for name in PUSH_PAYLOADS} <= shown


def test_no_example_escapes_the_test() -> None:
    assert len(EXAMPLES) == len(re.findall(r"^```json", PROTOCOL, flags=re.MULTILINE))


def test_the_error_of_the_example_is_what_the_codec_says() -> None:
    (shown,) = (json.loads(e.text)["error"] for e in EXAMPLES if e.kind == "ack" and '"ok": false' in e.text)
    payload = {"conversation_id": "c", "client_message_id": "a b", "body": "x"}
    with pytest.raises(Refused) as refused:
        decode_payload(CLIENT_EVENTS["send_message"], payload)
    assert refused.value.error.model_dump(mode="json") == shown


# --- Tables of the protocol -------------------------------------------------------------------------------


def fields_by_event(section: str) -> Iterator[tuple[str, list[str]]]:
    """The rows of a table of events: the event, and the braces of each further cell."""
    text = PROTOCOL.split(f"## {section}\n")[1].split("\n## ")[0].replace(r"\|", "or")
    for row in re.findall(r"^\| `(\w+)` \|(.*)\|$", text, flags=re.MULTILINE):
        yield row[0], re.findall(r"`\{(.*?)\}`", row[1])


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text)) - {"or"}


def test_the_table_of_client_events_names_every_field() -> None:
    rows = {event: (words(payload), words(data)) for event, (payload, data) in fields_by_event("Client to server")}
    assert rows == {
        event: (set(payload.model_fields), set(ACKS[event].model_fields)) for event, payload in CLIENT_EVENTS.items()
    }


def test_optional_fields_are_marked() -> None:
    for event, (payload, _) in fields_by_event("Client to server"):
        optional = {name for name, field in CLIENT_EVENTS[event].model_fields.items() if not field.is_required()}
        assert set(re.findall(r"(\w+)\?", payload)) == optional


def test_the_table_of_pushes_names_every_field() -> None:
    rows = {event: words(payload) for event, (payload,) in fields_by_event("Server to client")}
    assert rows == {event: set(payload.model_fields) for event, payload in PUSH_PAYLOADS.items()}


def test_numbers_in_the_protocol_are_those_of_the_code() -> None:
    # Given the defaults of the settings, then the protocol names each of them
    settings = EdgeSettings.model_fields
    rate, burst = (settings[name].default for name in ("rate_limit", "rate_burst"))
    assert f"{rate} events/s with bursts of {burst}" in " ".join(PROTOCOL.replace("\n", " ").split())
    assert f"over {settings['max_in_flight'].default} unanswered events" in PROTOCOL
    assert f"no answer within {settings['reply_timeout'].default} s" in PROTOCOL
    assert f"within {settings['connect_timeout'].default} s is closed" in PROTOCOL
    assert f"have {settings['max_connections_per_user'].default} sockets on one edge" in PROTOCOL
    frames, most_frames = (settings[name].default for name in ("frame_rate", "frame_burst"))
    kilobytes, most_kilobytes = (settings[name].default >> 10 for name in ("byte_rate", "byte_burst"))
    said = " ".join(PROTOCOL.split())
    assert f"{frames} WebSocket frames per second with bursts of {most_frames}" in said
    assert f"{kilobytes} KiB per second with bursts of {most_kilobytes >> 10} MiB" in said
    assert f"up to {MAX_PARTICIPANTS} people" in PROTOCOL
    assert f"`limit` is 1-{MAX_LIMIT}" in PROTOCOL


def test_bounds_and_budgets_in_the_protocol_are_those_of_the_code() -> None:
    assert f"the first {SHOWN_PARTICIPANTS} in the order in which they joined" in PROTOCOL
    assert f"in conversations of up to {MAX_SEEN_PARTICIPANTS} people" in PROTOCOL
    assert f"Send 1-{MAX_USER_IDS} ids" in PROTOCOL
    for budget in ("start_people_per_hour", "searches_per_minute", "read_items_per_minute"):
        assert f"| `{budget}` | {EdgeSettings.model_fields[budget].default:,} |" in PROTOCOL


def test_the_limits_of_the_example_are_those_of_the_code() -> None:
    shown = next(json.loads(example.text) for example in EXAMPLES if example.event == "session_ready")
    secret = "x" * MIN_SECRET_BYTES
    assert shown["limits"] == limits_of(EdgeSettings(jwt_secret=SecretStr(secret))).model_dump()


# --- The design -------------------------------------------------------------------------------------------


def test_the_design_names_every_exchange_and_queue() -> None:
    names = [exchange.name for exchange in topology.EXCHANGES] + [queue.name for queue in topology.WORK_QUEUES]
    assert [name for name in (*names, topology.TYPING.name, "<queue>.dead") if f"`{name}`" not in DESIGN] == []
    assert f"delivery limit {topology.DELIVERY_LIMIT}" in DESIGN
    assert f"{topology.EDGE_QUEUE_MAX_BYTES >> 20} MiB" in DESIGN


@pytest.mark.parametrize("collection", ["messages", "conversations", "inboxes", "users", "sessions", "edges", "terms"])
def test_the_design_names_every_collection(collection: str) -> None:
    assert f"| `{collection}` |" in DESIGN
    assert f'database["{collection}"]' in (ROOT / "infra" / "store" / "client.py").read_text()


# --- Settings ---------------------------------------------------------------------------------------------


def settings_table() -> str:
    """The rows that docs/settings.md should have, from the classes themselves."""
    groups = [("every process", Settings), ("edges", EdgeSettings), ("workers", WorkerSettings)]
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for title, group in groups:
        lines.append(f"| **{title}** | | |")
        own = {n: f for n, f in group.model_fields.items() if group is Settings or n not in Settings.model_fields}
        lines += [
            f"| `WARREN_{name.upper()}` | {shown_default(field)} | {field.description} |" for name, field in own.items()
        ]
    return "\n".join(lines)


def shown_default(field: FieldInfo) -> str:
    default: Any = field.get_default(call_default_factory=True)
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if default is None or default == "":
        return "none"
    if isinstance(default, bool | list):
        return f"`{json.dumps(default)}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def test_the_table_of_settings_has_each_with_its_default() -> None:
    assert settings_table() in SETTINGS, f"docs/settings.md needs this table:\n{settings_table()}"


def test_no_document_names_a_setting_that_is_none() -> None:
    known = {f"WARREN_{name.upper()}" for group in (EdgeSettings, WorkerSettings) for name in group.model_fields}
    for file in DOCUMENTS:
        assert set(re.findall(r"(?<!window\.)WARREN_[A-Z_]+[A-Z]", file.read_text())) <= known, named(file)


# --- Metrics ----------------------------------------------------------------------------------------------


def metric_names() -> set[str]:
    """The names under which /metrics shows what infra/metrics.py has."""
    collectors = [found for found in vars(metrics).values() if isinstance(found, MetricWrapperBase)]
    families = [family for collector in collectors for family in collector.describe()]
    return {family.name + ("_total" if family.type == "counter" else "") for family in families}


@pytest.mark.parametrize("file", DOCUMENTS, ids=named)
def test_no_document_names_a_metric_that_is_none(file: Path) -> None:
    assert set(re.findall(r"warren_[a-z_]+", file.read_text())) <= metric_names() | {"warren_"}


# --- Security ---------------------------------------------------------------------------------------------


def test_every_attack_names_tests_that_exist() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    sources = "\n".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    named_tests = set(re.findall(r"`(test_\w+)`", page))
    assert named_tests <= set(re.findall(r"def (test_\w+)\(", sources))
    attacks = re.findall(
        r"^\| (?!attack|asset|who|user|--)[^|]+\|[^|]+\|([^|]+)\|$", page.split("## Attacks")[1], re.MULTILINE
    )
    assert len(attacks) > 20
    assert [cell for cell in attacks if not re.search(r"`test_\w+`", cell) and "below" not in cell] == []


# --- Commands ---------------------------------------------------------------------------------------------


def command_names(app: typer.Typer, prefix: str = "") -> Iterator[str]:
    for command in app.registered_commands:
        assert command.callback is not None
        yield prefix + (command.name or command.callback.__name__)
    for group in app.registered_groups:
        assert group.typer_instance is not None
        if group.typer_instance.info.invoke_without_command is True:
            yield f"{prefix}{group.name}"
        yield from command_names(group.typer_instance, f"{prefix}{group.name} ")


def test_the_table_of_commands_has_every_operator_command() -> None:
    documented = re.findall(r"^\| `python -m infra ([a-z -]+)", OPERATIONS, flags=re.MULTILINE)
    assert sorted(name.strip() for name in documented) == sorted(command_names(app))


@pytest.mark.parametrize("file", DOCUMENTS, ids=named)
def test_every_make_target_that_is_named_exists(file: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"(?:`|^    )make ([a-z0-9-]+)", file.read_text(), flags=re.MULTILINE)) <= targets


# --- Figures ----------------------------------------------------------------------------------------------

#: Rows of README.md's table: where docs/benchmarks/results.json has the figures, and how they are written.
COMPARED = {
    "messages/s, 400 in flight": ("400 in flight", "rate", ",.0f"),
    "deliveries/s in a group of 50": ("group", "deliveries", ",.0f"),
    "CPU per message, 400 in flight, ms": ("400 in flight", "cpu", ".2f"),
    "delivery p50 at 200 messages/s, ms": ("200/s", "delivery p50", ".1f"),
    "delivery p99 at 200 messages/s, ms": ("200/s", "delivery p99", ".1f"),
    "memory per idle connection, KB": ("idle", "kilobytes", ".1f"),
}
SYSTEMS = ("warren", "python", "node", "alone")


def test_the_comparison_of_the_readme_has_the_figures_of_the_benchmark() -> None:
    kept = json.loads((ROOT / "docs" / "benchmarks" / "results.json").read_text())["results"]
    for title, (measurement, metric, form) in COMPARED.items():
        measured = [kept[system].get(measurement, {}).get(metric) for system in SYSTEMS]
        cells = [format(one["median"], form) if one else "" for one in measured]
        assert f"| {title} | {' | '.join(cells)} |".replace("  |", " |") in README, title
    wrong = [sum(one["values"]) for system in SYSTEMS for one in wrong_of(kept[system])]
    assert (sum(wrong), "| messages lost, duplicated, out of order, gaps | 0 | 0 | 0 | 0 |" in README) == (0, True)


def wrong_of(system: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What the checker found in each measurement of a system."""
    yield from (metrics["wrong"] for metrics in system.values() if "wrong" in metrics)


# --- Form -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", DOCUMENTS, ids=named)
def test_every_link_leads_somewhere(file: Path) -> None:
    text = re.sub(r"^```.*?^```", "", file.read_text(), flags=re.MULTILINE | re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if not link.startswith("https://")]
    assert [link for link in links if not target(file, link).exists()] == []


def target(file: Path, link: str) -> Path:
    """The file that a link of a document means; GitHub serves workflows and their badges under `actions`."""
    if workflow := re.fullmatch(r"\.\./\.\./actions/workflows/(.+\.yml)(/badge\.svg)?", link):
        return ROOT / ".github" / "workflows" / workflow[1]
    return file.parent / link


@pytest.mark.parametrize("file", DOCUMENTS, ids=named)
def test_every_link_to_a_section_finds_its_heading(file: Path) -> None:
    text = re.sub(r"^```.*?^```", "", file.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link, anchor in re.findall(r"\]\(([^):#]*)#([^)]+)\)", text):
        assert anchor in anchors(file.parent / link if link else file), f"{link}#{anchor}"


def anchors(file: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_index_lists_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = [str(file.relative_to(ROOT / "docs")) for file in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if page != "README.md" and f"]({page})" not in index] == []


@pytest.mark.parametrize("file", DOCUMENTS, ids=named)
def test_paths_in_backticks_exist(file: Path) -> None:
    packages = "contracts|edge|infra|workers|docs|tests|web"
    paths = re.findall(rf"`((?:{packages})/[\w./-]+)`", file.read_text())
    assert [path for path in paths if not (ROOT / path).exists()] == []


#: Phrases that stop a reader whose first language is not English; see "Prose" in CONTRIBUTING.md.
RIDDLES = (
    "by far not",
    "came again",
    "come twice",
    "its like",
    "nobody's is",
    "of what so many",
    "on the net",
    "stand still",
    "stands still",
    "stood still",
    "what holds",
    "whoever",
)


@pytest.mark.parametrize("file", [file for file in DOCUMENTS if file.name != "CHANGELOG.md"], ids=named)
def test_no_document_speaks_in_riddles(file: Path) -> None:
    prose = " ".join(re.sub(r"“[^”]*”|\"[^\"]*\"", "", file.read_text()).split()).lower()
    assert [phrase for phrase in RIDDLES if phrase in prose] == []


@pytest.mark.parametrize("file", DOCUMENTS, ids=named)
def test_lines_are_short_enough_to_read(file: Path) -> None:
    prose = [line for line in file.read_text().splitlines() if not line.startswith("|")]
    assert [line for line in prose if len(line) > 125] == []


def test_the_client_of_the_readme_is_short() -> None:
    (client,) = re.findall(r"^```js\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    assert len(client.splitlines()) <= 15
