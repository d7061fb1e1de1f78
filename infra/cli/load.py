"""`python -m infra load`: puts load on Warren, prints rates and latencies, and checks what was stored.

Without --edge it starts a Warren on this machine, a fresh one for each scenario. With --edge it is a client of a
cluster that runs already. The load generator is infra/bench/load/. It is imported only when a run begins, because its
libraries are an extra, warren[bench].
"""

import json
import os
import sys
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import urlsplit

import typer
import uvloop
from pydantic import SecretStr

from contracts.errors import WarrenError
from infra.cli.console import console
from infra.settings import EdgeSettings, load

if TYPE_CHECKING:
    from infra.bench.load.figures import Figures
    from infra.bench.load.local_run import Scenario
    from infra.bench.load.users import Users

T = TypeVar("T")

#: What a run on a cluster does where an option is left out: users, messages a second, messages in flight, seconds.
PEOPLE, RATE, IN_FLIGHT, SECONDS = 20, 10.0, 20, 30.0
NAME = "load"
#: Limits of a run on a cluster: users, and seconds of its measured stretch.
MAX_PEOPLE, MAX_SECONDS = 20_000, 3_600.0
#: Files that a run opens besides its sockets.
OTHER_FILES = 64

app = typer.Typer(invoke_without_command=True)

Pairs = Annotated[
    int, typer.Option(help="Pairs of users; each user has one socket, the two on different edges.", min=1)
]
Seconds = Annotated[float, typer.Option(help="Length of the measured stretch, after 3 s of warm-up.", min=1)]
SeenEvery = Annotated[int, typer.Option(help="Recipients send message_seen for every N-th message; 0 = never.", min=0)]
Edges = Annotated[int, typer.Option(help="Edges to start.", min=1)]
Persistence = Annotated[int, typer.Option(help="Persistence workers to start.", min=1)]


@app.callback()
def command(
    context: typer.Context,
    edge: Annotated[
        list[str] | None,
        typer.Option(help="Address of a running cluster's edge, or of its load balancer; repeatable."),
    ] = None,
    secret_file: Annotated[
        Path | None,
        typer.Option(
            help="With --edge: file with the HS256 secret that the edges verify tokens with. "
            "Default: WARREN_JWT_SECRET.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="With --edge: file with a token per line, each for another user; replaces the secret.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help=f"With --edge and a secret: users are NAME-1, NAME-2, …; default {NAME}.")
    ] = None,
    people: Annotated[
        int | None,
        typer.Option(
            help=f"With --edge: users, an even number; they talk in pairs. Default: {PEOPLE}, or all of --token-file.",
            min=2,
            max=MAX_PEOPLE,
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            help=f"With --edge: messages a second in all; 0 = closed loop with --in-flight. Default: {RATE:g}.", min=0
        ),
    ] = None,
    in_flight: Annotated[
        int | None, typer.Option(help=f"With --rate 0: messages in flight in all. Default: {IN_FLIGHT}.", min=1)
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            help=f"With --edge: length of the measured stretch, after 3 s of warm-up. Default: {SECONDS:g}.",
            min=1,
            max=MAX_SECONDS,
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the figures to this file.", dir_okay=False)
    ] = None,
) -> None:
    """Put load on Warren, print rates and latencies, and check that nothing was lost, duplicated or reordered.

    Without --edge, it starts RabbitMQ, MongoDB, edges and workers on this machine.
    COMMAND is what to measure. Without one, it measures throughput with 100 and 400
    messages in flight, latency at 200 messages a second, and 4,000 connections.

    With --edge, it sends messages through a running cluster, as its clients do.
    Then it reads them back with list_messages and compares them with the acks.
    The users and their messages stay in the cluster.

    It exits with 1 if the check fails or the run does not finish.
    """
    if json_file is not None and not json_file.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {json_file.parent}", param_hint="--json")
    context.obj = json_file
    options = _ClusterOptions(secret_file, token_file, name, people, rate, in_flight, seconds)
    if edge:
        if context.invoked_subcommand is not None:
            raise typer.BadParameter("a scenario starts a Warren of its own: leave it out", param_hint="--edge")
        options.validate()
        _execute_on_cluster(tuple(map(_address, edge)), options, json_file)
        return
    if given := [f"--{option.replace('_', '-')}" for option, value in vars(options).items() if value is not None]:
        raise typer.BadParameter("needs --edge; a scenario's own options go after its name", param_hint=given[0])
    if context.invoked_subcommand is None:
        _need_generator()
        from infra.bench.load.local_run import ALL  # noqa: PLC0415

        _execute_locally(ALL, json_file)


# --- On a Warren of this machine --------------------------------------------------------------------------


@app.command()
def throughput(
    context: typer.Context,
    in_flight: Annotated[list[int], typer.Option(help="Messages in flight in all; repeatable.", min=1)] = [100, 400],  # noqa: B006
    pairs: Pairs = 100,
    seconds: Seconds = 15.0,
    seen_every: SeenEvery = 0,
    edges: Edges = 2,
    persistence: Persistence = 1,
) -> None:
    """Measure messages a second with always the same number in flight: a closed loop."""
    _need_generator()
    from infra.bench.load import local_run  # noqa: PLC0415

    scenarios = {
        f"throughput, {count} in flight": local_run.throughput(count, pairs, seconds, seen_every) for count in in_flight
    }
    _execute_locally(scenarios, context.obj, edges=edges, persistence=persistence)


@app.command()
def latency(
    context: typer.Context,
    rate: Annotated[float, typer.Option(help="Messages a second in all.", min=0.1)] = 200.0,
    pairs: Pairs = 100,
    seconds: Seconds = 15.0,
    seen_every: SeenEvery = 0,
    edges: Edges = 2,
) -> None:
    """Measure ack and delivery times at a fixed rate, whether or not earlier messages were answered: an open loop."""
    _need_generator()
    from infra.bench.load import local_run  # noqa: PLC0415

    scenarios = {f"latency at {rate:.0f}/s": local_run.latency(rate, pairs, seconds, seen_every)}
    _execute_locally(scenarios, context.obj, edges=edges)


@app.command()
def connections(
    context: typer.Context,
    count: Annotated[int, typer.Option(help="Connections, each of its own user.", min=1)] = 4000,
) -> None:
    """Measure many idle connections on one edge: the time until all are ready, and the memory of each."""
    _need_generator()
    from infra.bench.load import local_run  # noqa: PLC0415

    _execute_locally({f"{count:,} connections": local_run.connections(count)}, context.obj)


@app.command()
def kill(
    context: typer.Context,
    worker: Annotated[list[str] | None, typer.Option(help="Kind to kill; default: all four in turn.")] = None,
    in_flight: Annotated[int, typer.Option(help="Messages in flight in all.", min=1)] = 100,
    pairs: Pairs = 100,
    seconds: Seconds = 20.0,
) -> None:
    """Kill a worker (SIGKILL) under load, start it again 5 s later, and measure as `throughput` does, with retries."""
    _need_generator()
    from infra.bench.load import local_run  # noqa: PLC0415
    from infra.local.stack import WORKER_KINDS  # noqa: PLC0415

    kinds = worker or list(WORKER_KINDS)
    if unknown := set(kinds) - set(WORKER_KINDS):
        known = ", ".join(WORKER_KINDS)
        raise typer.BadParameter(f"no such worker: {', '.join(unknown)}; there are {known}", param_hint="--worker")
    scenarios = {f"kill -9 {kind}": local_run.kill(kind, in_flight, pairs, seconds) for kind in kinds}
    _execute_locally(scenarios, context.obj, env=local_run.KILL_SETTINGS)


def _execute_locally(
    scenarios: Mapping[str, "Scenario"],
    json_file: Path | None,
    *,
    edges: int = 2,
    persistence: int = 1,
    env: Mapping[str, str] | None = None,
) -> None:
    from infra.bench.load.local_run import run_locally  # noqa: PLC0415
    from infra.bench.load.usage import raise_file_limit  # noqa: PLC0415

    raise_file_limit()
    work = run_locally(console, scenarios, edges=edges, persistence=persistence, env=env)
    _finish(_run(work), json_file)


# --- On a cluster that runs already -----------------------------------------------------------------------


@dataclass(frozen=True)
class _ClusterOptions:
    """The options that go with --edge, as given; None where left out."""

    secret_file: Path | None
    token_file: Path | None
    name: str | None
    people: int | None
    rate: float | None
    in_flight: int | None
    seconds: float | None

    def validate(self) -> None:
        """Refuse options that exclude each other. Raises BadParameter."""
        if self.secret_file is not None and self.token_file is not None:
            raise typer.BadParameter("excludes --secret-file", param_hint="--token-file")
        if self.name is not None and self.token_file is not None:
            raise typer.BadParameter("the tokens in --token-file name the users", param_hint="--name")
        if self.in_flight is not None and self.rate != 0:
            raise typer.BadParameter("needs --rate 0", param_hint="--in-flight")
        if self.people is not None and self.people % 2:
            raise typer.BadParameter("must be even: people talk in pairs", param_hint="--people")


def _address(text: str) -> str:
    """An edge's address without a trailing slash. Raises BadParameter."""
    wrong = typer.BadParameter(f"{text!r} is no address such as http://10.0.0.5:8001", param_hint="--edge")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise wrong from None
    extra = parts.path.strip("/") or parts.query or parts.fragment or parts.username
    if parts.scheme not in ("http", "https") or not parts.hostname or extra or port == 0:
        raise wrong
    return f"{parts.scheme}://{parts.netloc}"


def _execute_on_cluster(edges: tuple[str, ...], options: _ClusterOptions, json_file: Path | None) -> None:
    _need_generator()
    from infra.bench.load import cluster_run  # noqa: PLC0415
    from infra.bench.load.traffic import MAX_MESSAGES  # noqa: PLC0415
    from infra.bench.load.usage import raise_file_limit  # noqa: PLC0415

    rate = RATE if options.rate is None else options.rate
    seconds = options.seconds or SECONDS
    if rate * seconds > MAX_MESSAGES:
        raise typer.BadParameter(f"is over {MAX_MESSAGES:,} messages in {seconds:g} s, the limit", param_hint="--rate")
    users = _users(options, lifetime=seconds + cluster_run.OVERHEAD)
    if (limit := raise_file_limit()) < len(users.ids) + OTHER_FILES:
        sys.exit(f"{len(users.ids):,} people need as many sockets, and this process may open {limit:,} files.")
    run = cluster_run.ClusterRun(edges, users, rate, options.in_flight or IN_FLIGHT, seconds)
    _finish([_run(cluster_run.run_on_cluster(console, run))], json_file)


def _users(options: _ClusterOptions, lifetime: float) -> "Users":
    from infra.bench.load.users import users_from_file, users_from_secret  # noqa: PLC0415

    if options.token_file is not None:
        return users_from_file(options.token_file, options.people, lifetime)
    given: dict[str, object] = {}
    if options.secret_file is not None:
        given = {"jwt_secret": _secret(options.secret_file), "jwt_public_key": None, "jwt_jwks_url": None}
    elif not os.environ.get("WARREN_JWT_SECRET") and not os.environ.get("WARREN_SECRETS_DIR"):
        sys.exit("Tokens are needed: give --secret-file or --token-file, or set WARREN_JWT_SECRET.")
    return users_from_secret(load(EdgeSettings, **given), options.name or NAME, options.people or PEOPLE, lifetime)


def _secret(file: Path) -> SecretStr:
    try:
        return SecretStr(file.read_text().strip())
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {error}", param_hint="--secret-file") from None


# --- Both -------------------------------------------------------------------------------------------------


def _need_generator() -> None:
    """Exit with a sentence where the load generator's libraries are missing."""
    if missing := [library for library in ("picows", "psutil") if find_spec(library) is None]:
        sys.exit(f"The load generator needs {' and '.join(missing)}: install warren[bench].")


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; a failure of a known kind is one sentence, and exit code 1."""
    from picows import WSError  # noqa: PLC0415

    from infra.bench.load.light_client import CallFailed  # noqa: PLC0415
    from infra.local.errors import LocalServiceError  # noqa: PLC0415

    try:
        return uvloop.run(work)
    except (WarrenError, LocalServiceError, CallFailed, WSError, OSError) as error:
        sys.exit(f"The run did not finish: {error or type(error).__name__}")


def _finish(figures: Sequence["Figures"], json_file: Path | None) -> None:
    """Print the table, write the file, and exit with 1 where the check failed."""
    from infra.bench.load import table  # noqa: PLC0415
    from infra.bench.load.figures import as_json  # noqa: PLC0415

    table.show(console, figures)
    passed = all(each.passed for each in figures)
    if json_file is not None:
        document = {"passed": passed, "scenarios": [as_json(each) for each in figures]}
        json_file.write_text(json.dumps(document, indent=1) + "\n")
    if not passed:
        raise typer.Exit(1)
