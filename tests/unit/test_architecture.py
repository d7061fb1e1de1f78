"""The rules of the house, read from the source: who imports whom, who may do what, and that nothing is left out."""

import ast
import graphlib
import inspect
import re
import sys
import typing
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from prometheus_client.metrics import MetricWrapperBase

import workers.history
import workers.persistence
import workers.presence
import workers.search
import workers.unread
from contracts import acks, codec, commands, facts, pushes, topology
from infra import metrics
from workers.__main__ import WORKERS

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("contracts", "infra", "edge", "workers")
#: Who may be imported by whom, themselves included.
MAY_IMPORT = {
    "contracts": {"contracts"},
    "infra": {"contracts", "infra"},
    "edge": {"contracts", "infra", "edge"},
    "workers": {"contracts", "infra", "workers"},
}
#: What reaches the outside; `contracts` knows none of it.
OUTSIDE = {
    "aio_pika", "aiormq", "asyncio", "engineio", "httpx", "jwt", "motor", "opentelemetry", "pamqp", "prometheus_client",
    "pydantic_settings", "pymongo", "socket", "socketio", "starlette", "subprocess", "urllib", "uvicorn", "uvloop",
}  # fmt: skip
#: Files that end on a worker's side: everything that handles what a queue carries.
HANDLERS: dict[str, ModuleType] = {
    "persistence": workers.persistence,
    "unread": workers.unread,
    "presence": workers.presence,
    "typing": workers.presence,
    "history": workers.history,
    "search": workers.search,
}
MAX_LINES = 400

MODULES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))


def name_of(file: Path) -> str:
    """A file's path as a reader would say it."""
    return str(file.relative_to(ROOT))


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def imports(file: Path) -> Iterator[str]:
    """The full name of everything that a module imports, wherever in it."""
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(file)} imports relatively"
            yield str(node.module)


def files_that(holds: typing.Callable[[Path], bool]) -> list[str]:
    return [name_of(file) for file in MODULES if holds(file)]


def calls(file: Path) -> set[str]:
    """The last names of everything that a module calls."""
    functions = [node.func for node in ast.walk(parsed(file)) if isinstance(node, ast.Call)]
    return {
        function.attr if isinstance(function, ast.Attribute) else function.id
        for function in functions
        if isinstance(function, ast.Attribute | ast.Name)
    }


# --- Imports ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_imports_run_one_way(file: Path) -> None:
    package = file.relative_to(ROOT).parts[0]
    ours = {name.split(".")[0] for name in imports(file)} & {*PACKAGES, "tests", "web"}
    assert ours <= MAY_IMPORT[package]


def test_contracts_know_nothing_of_the_outside() -> None:
    outside = {
        (name_of(file), name)
        for file in (ROOT / "contracts").rglob("*.py")
        for name in imports(file)
        if name.split(".")[0] in OUTSIDE
    }
    assert outside == set()


def importers_of(*libraries: str) -> list[str]:
    """Our modules that import one of these; the systems that Warren is compared with may use what they like."""
    found = files_that(lambda file: any(name.split(".")[0] in libraries for name in imports(file)))
    return [name for name in found if not name.startswith("infra/bench/peers/")]


def test_the_broker_package_alone_knows_the_broker_library() -> None:
    assert importers_of("aio_pika", "aiormq", "pamqp") == [
        "infra/broker/channel.py",
        "infra/broker/link.py",
        "infra/broker/publisher.py",
    ]


def test_one_file_knows_opentelemetry() -> None:
    assert importers_of("opentelemetry") == ["infra/tracing/otel.py"]


def test_the_store_package_alone_speaks_mongodb() -> None:
    # Starting a mongod of one's own, and hearing what the driver does, is not using the store
    elsewhere = [name for name in importers_of("bson", "motor", "pymongo") if not name.startswith("infra/store/")]
    assert [name for name in elsewhere if not name.startswith(("infra/local/", "infra/tracing/"))] == []


def test_the_store_takes_plain_values_and_knows_no_messages_between_processes() -> None:
    known = {"contracts.counting", "contracts.errors", "contracts.values"}
    store = [file for file in MODULES if name_of(file).startswith("infra/store/")]
    imported = {name for file in store for name in imports(file) if name.startswith("contracts")}
    assert imported <= known


#: Collections, and what a `Store` calls them.
COLLECTIONS = {"conversations", "edges", "inboxes", "messages", "sessions", "users"}


def names_a_collection(file: Path) -> bool:
    """Whether a module reaches for a collection: `store.messages`, `self._store.messages`, `database["messages"]`."""
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Attribute) and node.attr in COLLECTIONS:
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            if owner.strip("_") in ("store", "database"):
                return True
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            if node.slice.value in COLLECTIONS and owner.strip("_") in ("db", "database"):
                return True
    return False


def test_the_store_package_alone_names_collections() -> None:
    naming = [name for name in files_that(names_a_collection) if not name.startswith("infra/bench/peers/")]
    assert [name for name in naming if not name.startswith("infra/store/")] == []
    assert "infra/store/messages.py" in naming, "the rule sees nothing any more"


def test_no_imports_run_in_a_circle() -> None:
    modules = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in MODULES
    }
    graph = {
        name: {other for other in runtime_imports(file) if other in modules} - {name} for name, file in modules.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"These import each other: {' → '.join(reversed(error.args[1]))}")


def runtime_imports(file: Path) -> Iterator[str]:
    """The modules that one imports as it is loaded; a package's own file imports its modules only where it says so."""
    for node in parsed(file).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            submodules = [name for alias in node.names if is_module(name := f"{node.module}.{alias.name}")]
            yield from submodules or [str(node.module)]


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or path.is_dir()


def test_one_file_acks() -> None:
    # The other one removes dead letters at an operator's word; no worker or edge runs it.
    acking = files_that(lambda file: bool({"ack", "nack", "reject"} & calls(file)))
    assert acking == ["infra/broker/dead_letters.py", "workers/runner.py"]


def test_settling_reaches_the_broker_through_its_adapter_alone() -> None:
    assert files_that(lambda file: bool({"basic_ack", "basic_nack", "basic_reject"} & calls(file))) == [
        "infra/broker/channel.py"
    ]


def test_one_file_supervises_processes_and_one_starts_those_that_outlive_us() -> None:
    starting = {"Popen", "create_subprocess_exec", "create_subprocess_shell", "fork", "killpg", "posix_spawn"}
    found = files_that(lambda file: bool(starting & calls(file)))
    assert found == ["infra/local/daemon.py", "infra/local/supervisor.py"]


def test_one_file_declares() -> None:
    assert files_that(lambda file: bool({"declare_queue", "declare_exchange"} & calls(file))) == [
        "infra/broker/declare.py"
    ]


def test_bytes_become_objects_in_the_codec_alone() -> None:
    parsers = {"model_validate", "model_validate_json", "validate_json"}
    parsing = files_that(lambda file: bool(parsers & calls(file)) or "orjson" in set(imports(file)))
    # A load generator is a client: it reads what clients read
    assert [name for name in parsing if not name.startswith("infra/bench/")] == ["contracts/codec.py"]


def texts_in(file: Path) -> Iterator[str]:
    """The string constants of a module, and the constant parts of its f-strings."""
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_one_file_of_the_edge_spells_socketio_packets() -> None:
    def spells_packets(file: Path) -> bool:
        return any(re.match(r"4[0-4](\D|$)", text) for text in texts_in(file))

    edge_files = [name for name in files_that(spells_packets) if name.startswith("edge/")]
    assert edge_files == ["edge/packets.py"]


def test_the_codec_alone_spells_the_text_of_acks() -> None:
    assert files_that(lambda file: any('{"ok":' in text for text in texts_in(file))) == ["contracts/codec.py"]


# --- Completeness -----------------------------------------------------------------------------------------


COMMANDS = {str(command.model_fields["name"].default): command for command in typing.get_args(codec.AnyCommand)}
FACTS = {str(fact.model_fields["name"].default): fact for fact in (facts.AnyFact,)}
QUEUE_OF = {binding: queue.name for queue in (*topology.WORK_QUEUES, topology.TYPING) for binding in queue.bindings}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_queue_and_a_handler(name: str) -> None:
    module = HANDLERS[QUEUE_OF[topology.COMMANDS, name]]
    assert COMMANDS[name].__name__ in vars(module)
    assert COMMANDS[name].__name__ in names_used(Path(str(module.__file__)))


@pytest.mark.parametrize("name", FACTS)
def test_every_fact_has_a_queue_and_a_handler(name: str) -> None:
    module = HANDLERS[QUEUE_OF[topology.FACTS, name]]
    assert FACTS[name].__name__ in names_used(Path(str(module.__file__)))


def test_no_queue_is_bound_for_what_nobody_sends() -> None:
    names = {(topology.COMMANDS, name) for name in COMMANDS} | {(topology.FACTS, name) for name in FACTS}
    assert set(QUEUE_OF) == names


def test_every_queue_has_a_worker() -> None:
    consumed = [queue for consumed in WORKERS.values() for queue, _ in consumed]
    assert {queue.name for queue in consumed} == {queue.name for queue in (*topology.WORK_QUEUES, topology.TYPING)}
    assert len(consumed) == len({queue.name for queue in consumed})


def test_every_client_event_has_ack_data_and_a_command() -> None:
    assert set(commands.CLIENT_EVENTS) == set(acks.ACKS)
    assert set(commands.CLIENT_EVENTS) - set(commands.CLIENT_COMMANDS) == {"refresh_token"}
    for name, (command, payload) in commands.CLIENT_COMMANDS.items():
        assert COMMANDS[name] is command
        assert command.model_fields["payload"].annotation is payload


def test_every_push_has_a_payload_and_no_client_event_is_called_like_one_by_chance() -> None:
    assert set(typing.get_args(pushes.PushName)) == set(pushes.PUSHES)
    assert set(pushes.PUSHES) & set(commands.CLIENT_EVENTS) == {"message_seen", "typing"}


def names_used(file: Path) -> set[str]:
    """The names that a module's code mentions below its imports."""
    return {node.id for node in ast.walk(parsed(file)) if isinstance(node, ast.Name)}


# --- Metrics ----------------------------------------------------------------------------------------------


def test_every_metric_has_a_name_of_its_own_and_our_prefix() -> None:
    declared = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
    described = [description for metric in declared for description in metric.describe()]
    names = [description.name for description in described]
    assert len(names) == len(set(names))
    assert [name for name in names if not name.startswith("warren_")] == []
    assert [description.name for description in described if not description.documentation] == []


def test_metrics_are_made_in_one_file() -> None:
    makers = {"Counter", "Gauge", "Histogram", "Summary"}

    def makes_metrics(file: Path) -> bool:
        return "prometheus_client" in set(imports(file)) and bool(makers & calls(file))

    assert files_that(makes_metrics) == ["infra/metrics.py"]


# --- Names of files ---------------------------------------------------------------------------------------


#: Names that several files have, and the one thing that each of them is about. A test repeats the name of its module.
SHARED_NAMES = {
    "__init__": "a package, and what it is for",
    "__main__": "what `python -m` runs",
    "conftest": "the fixtures of a folder",
    "conversations": "conversations of users: stored, and started by a load run",
    "dead_letters": "dead letters: reading and replaying, and the command for it",
    "errors": "the errors that a package raises",
    "fakes": "what a folder's unit tests have instead of a service",
    "sessions": "sessions of users on edges: registered, and stored",
    "topology": "exchanges, queues and bindings, and the command for them",
    "users": "the users: stored, and of a load run",
}
#: Modules that have a name of the standard library: each is an operator's command, and has its name.
LIKE_THE_STANDARD_LIBRARY = ["infra/cli/secrets.py", "infra/cli/token.py"]


def test_files_of_one_name_have_one_meaning() -> None:
    files = [file for file in (*MODULES, *(ROOT / "tests").rglob("*.py")) if not file.stem.startswith("test_")]
    count = Counter(file.stem for file in files)
    assert {name for name, times in count.items() if times > 1} == set(SHARED_NAMES)


def test_no_module_is_called_like_one_of_the_standard_library() -> None:
    usual = {"__main__", "__init__"}
    alike = files_that(lambda file: file.stem in sys.stdlib_module_names - usual)
    assert alike == LIKE_THE_STANDARD_LIBRARY


# --- Readability ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", [*MODULES, *sorted((ROOT / "tests").rglob("*.py"))], ids=name_of)
def test_no_module_is_longer_than_a_reader_can_hold(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_what_is_public_says_what_it_is(file: Path) -> None:
    assert undocumented(parsed(file), file) == []


#: Values whose name and fields say it all: a command is its payload, an ack's data what it holds.
SELF_EXPLANATORY = {"contracts/commands.py", "contracts/acks.py", "contracts/pushes.py", "contracts/reports.py"}


def undocumented(module: ast.Module, file: Path) -> list[str]:
    """Public classes, functions and the module itself, where they have no docstring."""
    found = [] if ast.get_docstring(module) or not module.body else ["module"]
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and needs_docstring(node):
            found.append(node.name)
        if isinstance(node, ast.ClassDef) and needs_docstring(node) and name_of(file) not in SELF_EXPLANATORY:
            found.append(node.name)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
            found += [
                f"{node.name}.{method.name}" for method in methods if needs_docstring(method) and does_much(method)
            ]
    return found


def needs_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    return not node.name.startswith("_") and not ast.get_docstring(node)


def does_much(method: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a method is more than one statement that its name tells already, and no override of a documented one."""
    overrides = f"super().{method.name}(" in ast.unparse(method)
    return len(method.body) > 1 and not overrides


def test_every_package_says_what_it_is_for() -> None:
    assert [package for package in PACKAGES if not inspect.getdoc(__import__(package))] == []
